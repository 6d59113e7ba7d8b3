"""From a command line to a recipe's Config, where every mistake is one sentence."""

import contextlib
import dataclasses
import io
import json
import pathlib
import types
from collections.abc import Sequence

import tyro

from keras_elu.training.config import Config

# They say where a run lies, not what it does, and are in no config.json.
PLACES = ("run_dir", "config")


def parse(recipe: types.ModuleType, arguments: Sequence[str] | None = None) -> Config:
    """Returns the recipe's Config for a command line (default: the process's own).

    Raises:
        ValueError: With one sentence, if an argument or the file of `--config` is wrong.
        SystemExit: After `--help` has been printed.
    """
    config = _parse(recipe, arguments)
    if config.config is None:
        return config
    try:
        repeated = _parse(recipe, _read(recipe, config.config))
    except ValueError as error:
        raise ValueError(f"--config {config.config}: {error}") from error
    return _parse(recipe, arguments, default=repeated)


def _parse(recipe, arguments, default=None) -> Config:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                recipe.Config,
                args=arguments,
                default=recipe.Config() if default is None else default,
                description=_description(recipe),
                use_underscores=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_sentence(shown.getvalue())) from None


def _sentence(box: str) -> str:
    """Returns the first paragraph of the box in which tyro prints an error, as one line."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    paragraph = []
    for line in lines:
        if not line.strip("─╰╯"):
            break
        paragraph.append(line)
    text = " ".join(paragraph).removeprefix("Error parsing ").rstrip(".").replace(". ", ", ")
    return f"{text}; --help lists the flags."


def _description(recipe) -> str:
    defaults = [
        f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in values.items())
        for name, values in recipe.DEFAULTS.items()
    ]
    return "\n\n".join([recipe.__doc__.strip(), "Defaults by data set:", *defaults])


def _read(recipe, path: str) -> list[str]:
    """Returns the flags that a config.json stands for."""
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ValueError(f"the file is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError("the file does not hold a JSON object.")
    values = dict(values)
    name = recipe_name(recipe)
    if (other := values.pop("recipe", name)) != name:
        raise ValueError(f"the file is of the recipe {other!r}, not {name!r}.")
    known = [field.name for field in dataclasses.fields(recipe.Config) if field.name not in PLACES]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"the file has the unknown key {unknown[0]!r}.")
    return [_flag(key, value) for key, value in values.items()]


def _flag(key: str, value) -> str:
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no_{key}"
    return f"--{key}={value}"


def recipe_name(recipe: types.ModuleType) -> str:
    """Returns the last part of the recipe's module name."""
    return recipe.__name__.rpartition(".")[-1]
