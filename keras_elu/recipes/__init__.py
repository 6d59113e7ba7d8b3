"""What is trained. Each module is a recipe, with a `Config` and the following names.

`DEFAULTS` maps data sets to values for the fields of the Config that are None. Its first entry is
the data set that the recipe was made for, and applies to all data sets that are not listed.
`LEARNING_RATE_SCHEDULE` is the default of `--learning_rate_schedule`.
`build(config, dataset, steps)` returns the model and the arguments of its `compile`. Its schedules
span `steps`.
`self_contained(config, dataset, network)` returns the model to save, which takes pixels from 0 to
255. It shares the layers of the network that `build` returned.
`datasets(config, dataset, start_step, preprocess)` returns the training, validation and test
pipelines. With "none" for `preprocess`, images are pixels from 0 to 255, for `self_contained`.
"""
