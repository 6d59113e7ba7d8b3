"""What is trained: each module has a Config, its DEFAULTS, `build` and `datasets`.

`DEFAULTS` maps data sets to the values of the fields that are left at None; its first entry is the
data set the recipe was made for, and stands for all that are not listed; `LEARNING_RATE_SCHEDULE`
is the schedule where none is given.
`build(config, dataset, steps)` returns the model and the arguments of its `compile`, with schedules
over `steps`; `datasets(config, dataset, start_step)` returns the training, validation and test
pipelines.
"""
