"""What an experiment is: runs that differ in arm, case and seed, and the numbers compared."""

import dataclasses
import pathlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_elu import data, training
from keras_elu.training import command_line
from keras_elu.training.config import resolve

Network = Callable[[training.Config, data.Dataset, Callable], keras.Model]
# A number of one of the runs in a file of results; some depend on all the runs.
Measure = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], float]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Args:
        flags: Flags of its runs.
        network: Makes a network for a config, a data set and an activation. None: the recipe's.
    """

    flags: Mapping[str, Any]
    network: Network | None = None


@dataclasses.dataclass(frozen=True)
class Ordering:
    """A claim that a number increases from arm to arm.

    Args:
        measure: Name of the number in `Experiment.measures`.
        arms: The arms, from the lowest to the highest number, as the paper has them.
    """

    measure: str
    arms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """A part of the figure: a curve over the epochs for some arms.

    Args:
        curve: Name of the curve in the results.
        label: Label of its axis.
        arms: The arms.
        log: Whether the axis is logarithmic.
    """

    curve: str
    label: str
    arms: tuple[str, ...]
    log: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment: a run for each arm, case and seed.

    Runs of the same case and seed are paired: they have the same initial weights, batches and
    dropout.

    Args:
        name: The name.
        title: Heading of the figure and the section.
        paper: What the paper, or later work, reports.
        recipe: Module of `keras_elu.recipes`.
        flags: Flags of all runs.
        arms: What is compared, by name.
        cases: Flags under which all arms are compared, by name.
        seeds: The seeds.
        measures: Numbers of a run, by name.
        orderings: The claims that are tested.
        panels: The parts of the figure.
        observed: Number of training images on which activations are observed after every epoch.
        tested: Whether the final models are evaluated on the test images. Not if the numbers serve
            to choose something.
    """

    name: str
    title: str
    paper: str
    recipe: types.ModuleType
    flags: Mapping[str, Any]
    arms: Mapping[str, Arm]
    cases: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})
    seeds: Sequence[int]
    measures: Mapping[str, Measure]
    orderings: Sequence[Ordering]
    panels: Sequence[Panel]
    observed: int = 0
    tested: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A run of an experiment, trained or not."""

    arm: str
    case: str
    seed: int
    recipe: types.ModuleType
    config: training.Config

    @property
    def name(self) -> str:
        """The name of its folder."""
        return pathlib.PurePath(self.config.run_dir).name


def plan(experiment: Experiment, flags: Sequence[str], folder: str) -> list[Planned]:
    """Returns all runs of an experiment, the seeds one after the other.

    Args:
        experiment: The experiment.
        flags: Flags for all runs, which override those of the experiment, but not those of its
            arms and cases.
        folder: The folder in which each run has its own.

    Raises:
        ValueError: With one sentence, if a flag is wrong.
    """
    given = [f"--{name}={value}" for name, value in experiment.flags.items()]
    common = command_line.parse(experiment.recipe, [*given, *flags])
    return list(_plan(experiment, common, folder))


def _plan(experiment: Experiment, common: training.Config, folder: str) -> Iterator[Planned]:
    for seed in experiment.seeds:
        for case, of_case in experiment.cases.items():
            for name, arm in experiment.arms.items():
                recipe = _variant(experiment.recipe, name, arm)
                run = "-".join(filter(None, [name, case, str(seed)]))
                place = {"seed": seed, "run_dir": f"{folder}/{experiment.name}/{run}"}
                config = dataclasses.replace(common, **of_case, **arm.flags, **place)
                yield Planned(
                    arm=name, case=case, seed=seed, recipe=recipe, config=resolve(recipe, config)
                )


def _variant(recipe: types.ModuleType, name: str, arm: Arm) -> types.ModuleType:
    """Returns the recipe with the network of an arm."""
    if arm.network is None:
        return recipe

    def build(config, dataset, steps):
        _, arguments = recipe.build(config, dataset, steps)
        keras.utils.set_random_seed(config.seed)  # the weights that the recipe's network would get
        return arm.network(config, dataset, training.activation(config, steps)), arguments

    variant = types.ModuleType(f"{__package__}.{name}", recipe.__doc__)
    vars(variant).update({key: vars(recipe)[key] for key in vars(recipe) if key[0] != "_"})
    variant.build = build
    return variant
