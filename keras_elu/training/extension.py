"""Training a run longer: more epochs, or more patience, in the same folder."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Set
from typing import Any

import numpy as np

from keras_elu import files
from keras_elu.training import from_config
from keras_elu.training.config import MAY_CHANGE, AnyConfig, Config
from keras_elu.training.run import Run

# What of a complete run is moved aside, and what is copied there.
_RESULTS = ("model.keras", "best.keras", "result.json")
_DESCRIPTION = ("config.json", "environment.json", "history.csv")


@dataclasses.dataclass(frozen=True)
class Extension:
    """A run that continues beyond the epochs or the patience that it was started with.

    Args:
        folder: Folder of the run.
        epochs: Its number of epochs so far.
        scheduled: Number of epochs that its schedules have spanned so far.
    """

    folder: pathlib.Path
    epochs: int
    scheduled: int

    def check(self, run: Run, start: int) -> None:
        """Raises `ValueError`, with one sentence, if the run cannot be trained longer.

        Args:
            run: The run.
            start: The batch at which it would continue: 0 without an intact checkpoint.
        """
        if not start and (self.folder / "result.json").exists():
            raise ValueError(
                f"--run_dir {self.folder} holds a complete run without a checkpoint to continue "
                f"from: begin a new run with --initial_weights {self.folder}."
            )
        config, first = run.config, self.epochs * run.steps_per_epoch
        last = config.epochs * run.steps_per_epoch
        if config.epochs > self.epochs and not _rates(run, first, last).any():
            raise ValueError(
                f"The learning rate of {self.folder} is 0 after epoch {config.scheduled_epochs}: "
                f"add --schedule_epochs {config.epochs} to stretch its schedule, or begin a new "
                f"run with --initial_weights {self.folder}."
            )

    def describe(self, run: Run, done: int) -> str:
        """Returns in one line what happens to the run and its schedules after `done` epochs."""
        config, steps = run.config, run.steps_per_epoch
        if config.epochs == self.epochs:
            return f"continuing with --patience {config.patience}"
        rates = _rates(run, done * steps, config.epochs * steps)
        text = f"training for {config.epochs} epochs instead of {self.epochs}: the learning rate "
        if config.scheduled_epochs == self.scheduled:
            return (
                text + f"keeps its schedule of {self.scheduled} epochs and ends at {rates[-1]:.3g}"
            )
        return text + (
            f"follows a schedule of {config.scheduled_epochs} epochs instead of {self.scheduled}, "
            f"from {rates[0]:.3g} now to {rates[-1]:.3g}"
        )

    def move_results(self) -> None:
        """Moves the results so far to a folder of their own, as that of a complete run.

        Afterwards this run counts as incomplete. A process that is killed at any time leaves the
        results in one of the two places.
        """
        results = [self.folder / name for name in _RESULTS if (self.folder / name).exists()]
        if not (result := files.read_json(self.folder / "result.json")):
            return
        archive = self.folder / f"after-{result['epochs']}-epochs"
        if not archive.exists():
            unfinished = self.folder / f"unfinished-{archive.name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for path in results:
                _link(path, unfinished / path.name)
            for name in _DESCRIPTION:
                if (self.folder / name).exists():
                    shutil.copy2(self.folder / name, unfinished / name)
            files.complete(unfinished, archive)
        for path in reversed(results):  # the result first: without it, the run is incomplete
            path.unlink()


def plan(config: AnyConfig) -> tuple[AnyConfig, Extension | None]:
    """Compares a configuration with that of the run in its folder.

    Args:
        config: The complete configuration.

    Returns:
        The configuration with which the run continues, and its extension, if it is one.

    Raises:
        ValueError: With one sentence, if the run cannot be trained longer as the configuration
            says.
    """
    held = _held(config)
    epochs, patience, scheduled = (
        _positive(held.get(key)) for key in ("epochs", "patience", "schedule_epochs")
    )
    if epochs is None or config.epochs < epochs:
        return config, None
    longer = config.epochs > epochs
    more_patient = bool(patience and config.patience and config.patience > patience)
    if config.schedule_epochs is None:
        if longer and not _is_constant(config):
            raise ValueError(_choices(config, epochs, scheduled or epochs))
        kept = scheduled or (epochs if longer else None)
        config = dataclasses.replace(config, schedule_epochs=kept)
    if not longer and not more_patient:
        return config, None
    folder = pathlib.Path(config.run_dir)
    complete = (folder / "result.json").exists()
    if complete and not longer and _stopped(folder) is None:
        return config, None  # no epoch is left for more patience
    if complete and not more_patient and (done := _stopped(folder)) is not None:
        raise ValueError(
            f"--run_dir {folder} holds a run that --patience {patience} stopped after epoch "
            f"{done}: add a greater --patience to train it longer."
        )
    return config, Extension(folder, epochs, scheduled or epochs)


def _positive(value: Any) -> int | None:
    """The value if it is a positive integer, as people may have edited the file."""
    return value if type(value) is int and value > 0 else None


def may_change(extension: Extension | None) -> Set[str]:
    """Returns the keys in which a configuration may differ from that in its folder."""
    longer = set() if extension is None else {"epochs", "patience", "schedule_epochs"}
    return MAY_CHANGE | longer


def _held(config: Config) -> dict[str, Any]:
    if config.run_dir is None:
        return {}
    try:
        return files.read_object(pathlib.Path(config.run_dir) / "config.json")
    except ValueError:  # which RunFolder explains
        return {}


def _is_constant(config: Config) -> bool:
    return config.learning_rate_schedule == config.alpha_schedule == "constant"


def _choices(config: Config, epochs: int, scheduled: int) -> str:
    shapes = {"learning rate": config.learning_rate_schedule, "alpha": config.alpha_schedule}
    name, shape = next((name, shape) for name, shape in shapes.items() if shape != "constant")
    return (
        f"--run_dir {config.run_dir} holds a run of {epochs} epochs whose {name} follows a {shape} "
        f"schedule: add --schedule_epochs {scheduled} to keep its final value in further epochs, "
        f"--schedule_epochs {config.epochs} to stretch it, or begin a new run with "
        f"--initial_weights {config.run_dir}."
    )


def _stopped(folder: pathlib.Path) -> int | None:
    """The epoch after which its patience stopped a complete run; None if it did not."""
    try:
        return files.read_json(folder / "result.json").get("stopped_after")
    except (OSError, ValueError):
        return None


def _rates(run: Run, first: int, last: int) -> np.ndarray:
    """The learning rate at some of the steps from `first` to before `last`."""
    steps = np.linspace(first, max(first, last - 1), 1000).astype("int64")
    rate = from_config.learning_rate(run.config, run.steps_per_epoch * run.config.scheduled_epochs)
    return np.asarray(rate(steps)) if callable(rate) else np.full(len(steps), rate)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a file a second name, or copies it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
