"""The flags of a search, and how its command line is read."""

import dataclasses
import types
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from keras_elu import training
from keras_elu.training import command_line

_DESCRIPTION = """Searches schedules of the learning rate and of alpha, around those of the
recipe. The last flags, from --space on, belong to the search, all others to the recipe.

A trial is a process of its own. If it dies, or writes nothing for 30 minutes, it is resumed from
its last checkpoint, and fails after the fifth time. Rerun a stopped or killed search with the same
command to resume it.

For a search over several machines that share a folder, give the same command to a chief, with
KERASTUNER_TUNER_ID=chief, and to each worker, with an ID of its own; set KERASTUNER_ORACLE_IP and
KERASTUNER_ORACLE_PORT, the address of the chief, for all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The flags of a search, in addition to those that its trials have in common."""

    space: Literal["learning_rate", "alpha", "both"] = "both"
    """The schedule to search."""
    tuner: Literal["random", "bayesian", "hyperband"] = "random"
    """How trials are drawn. random, bayesian: the first trial is the recipe's default; trials worse
    than the median of the others are pruned. hyperband: many short trials, few long ones."""
    max_trials: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of trials. None: 20, or one sweep of hyperband."""
    objective: str = "val_loss"
    """Metric on the held-out images after the last epoch."""
    executions_per_trial: int = 5
    """Runs of each trial, with consecutive seeds, whose mean objective counts: a schedule that is
    good with one seed may diverge with the next."""
    parallel_trials: int = 1
    """Trials that run at a time, each with its share of the cores or accelerators."""
    seed: int = training.setting(0, between=(0, 2**32 - 1))
    """Seed of the search, and of the first run of every trial."""
    run_dir: Annotated[str | None, tyro.conf.arg(metavar="STR")] = training.setting(None, path=True)
    """Folder of the search. None: runs/tuning-RECIPE-DATASET-SPACE."""


def parse(
    recipe: types.ModuleType, arguments: Sequence[str] | None = None
) -> tuple[training.Config, SearchConfig]:
    """Returns the configuration that the trials have in common, and that of the search.

    Raises:
        ValueError: With one sentence, if an argument is wrong.
        SystemExit: After `--help` has been printed.
    """
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("Config", (SearchConfig, recipe.Config), {"__doc__": SearchConfig.__doc__})
    )
    description = f"{_DESCRIPTION}\n\nThe recipe: {recipe.__doc__}"
    both = types.SimpleNamespace(**vars(recipe) | {"Config": cls, "__doc__": description})
    parsed = command_line.parse(both, arguments)
    return _part(parsed, recipe.Config), _part(parsed, SearchConfig)


def _part(parsed: training.Config, cls: type):
    return cls(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(cls)})
