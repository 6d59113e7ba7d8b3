"""The folder of a run: its config, environment, logs, model and result."""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import keras

from keras_elu import environment, files
from keras_elu.files import aside, check_writable, lock, usable
from keras_elu.training.config import MAY_CHANGE, PLACES, Config, recipe_name


class RunFolder:
    """The folder of one run: config, environment, history, TensorBoard logs, model and result.

    Creating the object checks the folder and writes nothing.

    Args:
        recipe: The recipe's module.
        config: The complete configuration of the run.
        chief: Whether this process writes. One of several workers does; the others only read.
        may_change: Keys in which the run in the folder may differ from `config`.

    Attributes:
        config: The content of config.json.

    Raises:
        ValueError: With one sentence, if the folder belongs to something else or is not writable.
    """

    def __init__(
        self,
        recipe: types.ModuleType,
        config: Config,
        chief: bool = True,
        may_change: Set[str] = MAY_CHANGE,
    ):
        name = recipe_name(recipe)
        self.config = {"recipe": name} | {
            key: value for key, value in dataclasses.asdict(config).items() if key not in PLACES
        }
        self._may_change = may_change
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
        path = pathlib.Path(os.path.realpath(self.path))  # resolves ".." before folders are made
        if path.is_dir() and any(map(_is_content, path.iterdir())):
            self._compare(path)
        check_writable(self.path, "--run_dir")

    def _compare(self, path: pathlib.Path) -> None:
        try:
            held = files.read_object(path / "config.json")
        except ValueError as error:
            raise ValueError(
                f"--run_dir {self.path} holds files, but not those of a run: name a new folder."
            ) from error
        for key in sorted((held.keys() | self.config.keys()) - self._may_change):
            if held.get(key) != self.config.get(key):
                raise ValueError(
                    f"--run_dir {self.path} holds a run with another {key}, {held.get(key)!r} "
                    f"instead of {self.config.get(key)!r}: name a new folder."
                )

    @property
    def complete(self) -> bool:
        """Whether the run has a result."""
        return (self.path / "result.json").exists()

    def start(
        self,
        class_names: Sequence[str],
        examples: Mapping[str, int],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes the folder, locks it until the process ends, and writes all but the results.

        Args:
            class_names: The name of each class of the data set, in the order of the labels.
            examples: Number of images of the data set by split.
            prepare: Called once the folder is locked, before anything is written.

        Raises:
            ValueError: With one sentence, if the folder cannot be written, another process has
                locked it, or its run had other classes or another number of training or validation
                images.
        """
        if not self.chief:
            return
        held = read_class_names(self.path)
        if held is not None and held != tuple(class_names):
            raise ValueError(
                f"--run_dir {self.path} holds a run with other classes than those of the data set: "
                "name a new folder."
            )
        counts = _read(self.path / "examples.json")
        if counts is not None and not isinstance(counts, dict):
            raise ValueError(f"{self.path / 'examples.json'} does not hold numbers of images.")
        for split, kind in {"train": "training", "validation": "validation"}.items():
            count = examples.get(split, 0)
            if counts and counts.get(split, 0) != count:
                raise ValueError(
                    f"--run_dir {self.path} holds a run on {counts.get(split, 0)} {kind} images, "
                    f"but the data set has {count} now: name a new folder."
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._locked is None:
                self._locked = lock(self.path / "lock", f"--run_dir {self.path}")
            prepare()
            self._write("config.json", self.config)
            deterministic = {"deterministic": self.config["deterministic"]}
            self._write("environment.json", environment.describe() | deterministic)
            files.write_json(self.path / "class_names.json", list(class_names))
            files.write_json(self.path / "examples.json", dict(examples))
        except OSError as error:
            raise ValueError(
                f"--run_dir {self.path} cannot be written: {error.strerror}."
            ) from error

    def write_model(self, model: keras.Model, name: str = "model.keras") -> None:
        """Writes a model, by default the final one.

        Raises:
            OSError: If it cannot be written.
        """
        if self.chief:
            with aside(self.path / name) as path:
                model.save(path)

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the result, which makes the run complete.

        Raises:
            OSError: If it cannot be written.
        """
        if not self.chief:
            return
        self._write("result.json", result)
        (self.path / "lock").unlink(missing_ok=True)

    def _write(self, name: str, values: dict[str, Any]) -> None:
        files.write_json(self.path / name, _finite(values))


def read_class_names(folder: pathlib.Path) -> tuple[str, ...] | None:
    """Returns the names of the classes of the run in a folder, or None if it has none.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / "class_names.json"
    names = _read(path)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} does not hold a list of names.")
    return tuple(names)


def _read(path: pathlib.Path) -> Any:
    """Returns the content of a JSON file, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error


def _is_content(path: pathlib.Path) -> bool:
    """Whether a file is more than the remains of a run that was killed while it started."""
    return path.name != "lock" and not path.name.startswith("unfinished-")


def _finite(values):
    """Returns the values, with None for NaN and infinity, which JSON lacks."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _new(folder: pathlib.Path, name: str) -> pathlib.Path:
    # Microseconds, because several runs may start in the same second.
    return folder / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}"
