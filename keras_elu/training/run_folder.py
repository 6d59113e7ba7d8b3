"""The folder of a run: what was done, where, and what came of it."""

import dataclasses
import datetime
import itertools
import math
import os
import pathlib
import types
from typing import Any

import keras

from keras_elu import environment, files
from keras_elu.files import aside, check_writable, lock, usable
from keras_elu.training.config import MAY_CHANGE, PLACES, Config, recipe_name


class RunFolder:
    """Config, environment, history, TensorBoard logs, model and result of one run.

    Args:
        recipe: The recipe's module.
        config: The run's configuration, complete.
        chief: Whether this process writes; of several workers one does, and the others only read.

    Attributes:
        config: What config.json holds.

    Raises:
        ValueError: With one sentence, if the folder cannot be this run's. Nothing is written.
    """

    def __init__(self, recipe: types.ModuleType, config: Config, chief: bool = True):
        name = recipe_name(recipe)
        self.config = {"recipe": name} | {
            key: value for key, value in dataclasses.asdict(config).items() if key not in PLACES
        }
        with usable("--run_dir"):
            self.path = (
                _new(pathlib.Path("runs"), f"{name}-{config.dataset}")
                if config.run_dir is None
                else pathlib.Path(config.run_dir)
            )
            if chief:
                self._check()
        self.history = self.path / "history.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.chief = chief
        self._locked = None

    def _check(self) -> None:
        path = pathlib.Path(os.path.realpath(self.path))  # what ".." means once all is made
        if path.is_dir() and any(map(_counts, path.iterdir())):
            self._compare(path)
        check_writable(self.path, "--run_dir")

    def _compare(self, path: pathlib.Path) -> None:
        try:
            held = files.read_object(path / "config.json")
        except ValueError as error:
            raise ValueError(
                f"--run_dir {self.path} holds files, but not those of a run: name a new folder."
            ) from error
        for key in sorted((held.keys() | self.config.keys()) - MAY_CHANGE):
            if held.get(key) != self.config.get(key):
                raise ValueError(
                    f"--run_dir {self.path} holds a run with another {key}, {held.get(key)!r} "
                    f"instead of {self.config.get(key)!r}: name a new folder."
                )

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return (self.path / "result.json").exists()

    def start(self) -> None:
        """Makes the folder, locked until the process ends.

        Raises:
            ValueError: With one sentence, if the folder cannot be written, or another run has it.
        """
        if not self.chief:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._locked is None:
                self._locked = lock(self.path / "lock", f"--run_dir {self.path}")
            self._write("config.json", self.config)
            self._write("environment.json", environment.describe())
        except OSError as error:
            raise ValueError(
                f"--run_dir {self.path} cannot be written: {error.strerror}."
            ) from error

    def finish(self, model: keras.Model, result: dict[str, Any]) -> None:
        """Stores the final model, and after it the result.

        Raises:
            OSError: If the disk refuses them.
        """
        if not self.chief:
            return
        with aside(self.path / "model.keras") as path:
            model.save(path)
        self._write("result.json", result)
        (self.path / "lock").unlink(missing_ok=True)

    def _write(self, name: str, values: dict[str, Any]) -> None:
        files.write_json(self.path / name, _finite(values))


def _counts(path: pathlib.Path) -> bool:
    """Whether a file is more than what a run leaves that is killed before it has begun."""
    return path.name != "lock" and not path.name.startswith("unfinished-")


def _finite(values):
    """Returns the values with None for what JSON cannot hold."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _new(folder: pathlib.Path, name: str) -> pathlib.Path:
    name = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(folder / name for name in names if not (folder / name).exists())
