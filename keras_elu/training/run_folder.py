"""The folder of a run: what was done, where, and what came of it."""

import contextlib
import csv
import dataclasses
import datetime
import itertools
import json
import math
import os
import pathlib
import shutil
import types
from collections.abc import Iterator
from typing import Any

import keras

from keras_elu import environment
from keras_elu.training import command_line
from keras_elu.training.config import Config


class RunFolder:
    """Config, environment, history, TensorBoard logs, model and result of one run.

    Args:
        recipe: The recipe's module.
        config: The run's configuration, complete.
        chief: Whether this process writes; of several workers one does, and the others only read.

    Raises:
        ValueError: With one sentence, if the folder cannot be this run's. Nothing is written.
    """

    def __init__(self, recipe: types.ModuleType, config: Config, chief: bool = True):
        name = command_line.recipe_name(recipe)
        self._config = {"recipe": name} | {
            key: value
            for key, value in dataclasses.asdict(config).items()
            if key not in command_line.PLACES
        }
        self.path = (
            _new(pathlib.Path("runs"), f"{name}-{config.dataset}")
            if config.run_dir is None
            else pathlib.Path(config.run_dir)
        )
        self.history = self.path / "history.csv"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint = self.path / "checkpoint.npz"
        self.chief = chief
        if chief:
            self._check()

    def _check(self) -> None:
        if self.path.is_dir() and any(self.path.iterdir()):
            self._compare()
        elif self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--run_dir {self.path} is not a folder.")
        above = next(
            folder for folder in (self.path, *self.path.absolute().parents) if folder.exists()
        )
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise ValueError(f"--run_dir {self.path} cannot be written: {above} forbids it.")

    def _compare(self) -> None:
        try:
            held = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            held = None
        if not isinstance(held, dict):
            raise ValueError(
                f"--run_dir {self.path} holds files, but not those of a run: name a new folder."
            )
        for key in sorted(held.keys() | self._config.keys()):
            if held.get(key) != self._config.get(key):
                raise ValueError(
                    f"--run_dir {self.path} holds a run with another {key}, {held.get(key)!r} "
                    f"instead of {self._config.get(key)!r}: name a new folder."
                )

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return (self.path / "result.json").exists()

    def start(self, epochs_done: int = 0) -> None:
        """Makes the folder, with nothing of an earlier attempt but its finished epochs.

        Raises:
            ValueError: With one sentence, if the folder cannot be written.
        """
        if not self.chief:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write("config.json", self._config)
            if epochs_done:
                lines = self.history.read_text(encoding="utf-8").splitlines(keepends=True)
                with self.aside(self.history) as path:
                    path.write_text("".join(lines[: 1 + epochs_done]), encoding="utf-8")
            else:
                self.history.unlink(missing_ok=True)
                shutil.rmtree(self.tensorboard, ignore_errors=True)
            self._write("environment.json", environment.describe())
        except OSError as error:
            raise ValueError(
                f"--run_dir {self.path} cannot be written: {error.strerror}."
            ) from error

    def last_epoch(self) -> dict[str, float]:
        """Returns the metrics of the latest epoch in the history."""
        with self.history.open(encoding="utf-8") as file:
            row = list(csv.DictReader(file))[-1]
        return {k: float(v) for k, v in row.items() if k not in ("epoch", "images_per_second")}

    def finish(self, model: keras.Model, result: dict[str, Any]) -> None:
        """Stores the final model, and after it the result; the checkpoint has served."""
        if not self.chief:
            return
        with self.aside(self.path / "model.keras") as path:
            model.save(path)
        self._write("result.json", result)
        self.checkpoint.unlink(missing_ok=True)

    @contextlib.contextmanager
    def aside(self, path: pathlib.Path) -> Iterator[pathlib.Path]:
        """Yields the path to write to; afterwards the complete file gets its name."""
        unfinished = path.with_name(f"unfinished-{path.name}")
        yield unfinished
        unfinished.replace(path)

    def _write(self, name: str, values: dict[str, Any]) -> None:
        with self.aside(self.path / name) as path:
            path.write_text(json.dumps(_finite(values), indent=2) + "\n", encoding="utf-8")


def _finite(values):
    """Returns the values with None for what JSON cannot hold."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _new(folder: pathlib.Path, name: str) -> pathlib.Path:
    name = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(folder / name for name in names if not (folder / name).exists())
