"""The paper's comparisons of activations, repeated by one command each.

`tables` says what is compared. `running` trains, `results` stores what was measured, `figures` and
`page` show it.
"""
