"""Parsing the command line of a trainer, with errors of one sentence."""

import contextlib
import dataclasses
import io
import itertools
import pathlib
import re
import runpy
import types
from collections.abc import Sequence
from typing import Any

import tyro

from keras_elu import files
from keras_elu.training.checks import check
from keras_elu.training.config import PLACES, Config, recipe_name, resolve

# tyro's message for a value that fits none of the types of its flag.
_WRONG_TYPE = re.compile(r"(--\S+): no type matching (\S+) could be instantiated from \[(.+)\]")
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}


def parse(recipe: types.ModuleType, arguments: Sequence[str] | None = None) -> Config:
    """Returns the recipe's Config for a command line (default: the process's own).

    Raises:
        ValueError: With one sentence, if a flag or the `--config` file is wrong.
        SystemExit: After `--help` has been printed.
    """
    config = _parse(recipe, arguments)
    path = config.config or (config.evaluate and _config_of(pathlib.Path(config.evaluate)))
    if path is None:
        return config
    try:
        repeated = _parse(recipe, _read(recipe, path))
    except ValueError as error:
        raise ValueError(f"--config {path}: {error}") from error
    return _parse(recipe, arguments, default=repeated)


def _parse(recipe, arguments, default=None) -> Config:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            config = tyro.cli(
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
    except (AssertionError, OSError) as error:  # from its flags for shell completion
        raise ValueError(f"{error}; --help lists the flags.") from error
    check(config)
    return dataclasses.replace(config, **_expanded(config))


def _expanded(config: Config) -> dict[str, str]:
    """Returns the paths in a configuration, with `~` expanded."""
    paths = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.metadata.get("path")
    }
    return {
        name: str(files.path(path))
        for name, path in paths.items()
        if path is not None and path.startswith("~")
    }


def _config_of(weights: pathlib.Path) -> str | None:
    """Returns the path of the config.json of the run that weights belong to."""
    paths = [folder / "config.json" for folder in (weights, *weights.parents[:2])]
    return next((str(path) for path in paths if path.is_file()), None)


def _sentence(box: str) -> str:
    """Returns one sentence for the box in which tyro prints an error.

    tyro has no public API for its errors. The sentence is the first paragraph in the box, or a
    general one if there is none, as might happen with another version of tyro.
    """

    def is_rule(line):
        return not line.strip("─╭╮╰╯+-")

    # tyro draws the box in ASCII if stdout cannot show UTF-8. The first line is its title.
    lines = [line.strip(" │|") for line in box.splitlines()[1:]]
    paragraph = itertools.dropwhile(is_rule, lines)
    text = " ".join(itertools.takewhile(lambda line: not is_rule(line), paragraph))
    text = text.removeprefix("Error parsing ").rstrip(".").replace(". ", ", ")
    text = text or "the command line is wrong"
    if found := _WRONG_TYPE.fullmatch(text):
        flag, types, given = found.groups()
        kinds = [_KINDS.get(kind, kind.strip("{}")) for kind in types.split("|")]
        text = f"{flag} must be {' or '.join(kinds)}, not {given}"
    return f"{text}; --help lists the flags."


def _description(recipe) -> str:
    defaults = [
        f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items())
        for name, values in recipe.DEFAULTS.items()
    ]
    schedule = f"Default of --learning_rate_schedule: {recipe.LEARNING_RATE_SCHEDULE}."
    return "\n\n".join(
        [(recipe.__doc__ or "").strip(), "Defaults by data set:", *defaults, schedule]
    )


def _read(recipe, path: str) -> list[str]:
    """Returns the content of a config.json as flags."""
    values = files.read_object(pathlib.Path(path))
    name = recipe_name(recipe)
    if (other := values.pop("recipe", name)) != name:
        raise ValueError(f"the file belongs to the recipe {other!r}, not {name!r}.")
    fields = {f.name: f for f in dataclasses.fields(recipe.Config) if f.name not in PLACES}
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"the file has the unknown key {unknown[0]!r}.")
    return [_flag(fields[key], value) for key, value in values.items()]


def _flag(field: dataclasses.Field, value: Any) -> str:
    if field.type is bool:
        if not isinstance(value, bool):
            raise ValueError(f"the file's {field.name} must be true or false, not {value!r}.")
        return f"--{field.name}" if value else f"--no_{field.name}"
    if isinstance(value, bool | list | dict):
        kind = type(value).__name__
        raise ValueError(f"the file's {field.name} is a {kind}; it must be text, a number or null.")
    return f"--{field.name}={value}"


def trainer(arguments: Sequence[str]) -> tuple[types.ModuleType, Config]:
    """Returns the recipe and the complete Config for a trainer's script and its flags.

    Raises:
        ValueError: With one sentence, if the script or a flag is wrong.
        SystemExit: After `--help` has been printed.
    """
    recipe = _recipe(arguments)
    config = resolve(recipe, parse(recipe, arguments[1:]))
    check(config)
    return recipe, config


def _recipe(arguments: Sequence[str]) -> types.ModuleType:
    """Returns the recipe that the script, the first argument, imports."""
    if not arguments or not files.path(arguments[0]).is_file():
        raise ValueError(
            f"{arguments[0] if arguments else 'Nothing'} is not a trainer's script: give one, such "
            "as trainers/mnist.py, followed by its flags."
        )
    try:
        names = runpy.run_path(str(files.path(arguments[0])), run_name="trainer")
    except Exception as error:  # a script may raise anything
        raise ValueError(f"{arguments[0]} cannot be run: {error!r}.") from error
    recipes = [
        value
        for value in names.values()
        if isinstance(value, types.ModuleType)
        and all(hasattr(value, name) for name in ("Config", "build", "datasets"))
    ]
    if len(recipes) != 1:
        raise ValueError(
            f"{arguments[0]} imports {len(recipes)} recipes, which have Config, build and "
            "datasets: a trainer imports exactly one."
        )
    return recipes[0]
