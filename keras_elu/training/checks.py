"""Checks of the values of a configuration."""

import dataclasses
import os
from typing import Any

import numpy as np

from keras_elu.monitoring import profiling
from keras_elu.training import checkpoints, from_config
from keras_elu.training.config import LARGEST_INT, Config

_MANY_STEPS = LARGEST_INT  # more steps than any schedule has knots


def check(config: Config) -> None:
    """Raises `ValueError` with one sentence if a value is out of its range."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if allowed := _violated(value, field.metadata.get("between")):
            raise ValueError(f"--{field.name} must be {allowed}, not {value!r}.")
    checkpoints.interval(config.checkpoint_every, "--checkpoint_every")
    for name in ("alpha_knots", "learning_rate_knots"):
        from_config.knots(config, name)
    most = max([config.alpha_end, *from_config.knots(config, "alpha_knots")])
    if allowed := _violated(config.alpha * most):
        raise ValueError(f"--alpha must stay {allowed}, not become {config.alpha * most!r}.")
    if config.profile is not None:
        profiling.interval(config.profile)
    if make := from_config.activation(config, steps=_MANY_STEPS):
        make()


def _violated(value: Any, between: tuple[float, float] | None = None) -> str | None:
    """Returns a description of the allowed values, or None if the value is one of them."""
    match value:
        case str():
            return None if _is_file_name(value) else "text, not empty and without null characters"
        case float() if between:
            least, most = between
            return None if least <= value <= most else f"a number from {least:g} to {most:g}"
        case float():
            numbers = np.finfo("float32")
            held = float(numbers.tiny) <= value <= float(numbers.max)
            return None if held else "a positive number in the range of float32"
        case int() if not isinstance(value, bool):
            least, most = between or (1, LARGEST_INT)
            return None if least <= value <= most else f"a whole number from {least} to {most}"
    return None


def _is_file_name(text: str) -> bool:
    """Whether the operating system accepts a text as the name of a file."""
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
