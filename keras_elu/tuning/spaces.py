"""Search spaces: functions from hyper-parameters to a recipe's own Config.

A hyper-parameter has the name of its field; the knots of a schedule, which share one field, are
numbered. A space lies around a configuration, which it returns unchanged at its defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from keras_elu import training

if TYPE_CHECKING:
    import keras_tuner

AnyConfig = TypeVar("AnyConfig", bound=training.Config)
Space = Callable[["keras_tuner.HyperParameters", training.Config], training.Config]

_SHAPES = ("constant", "piecewise", "cosine", "one_cycle")
_LONGEST_WARMUP, _LARGEST_END = 0.4, 0.2
# Default knots.
_RATES = (0.1, 1.0, 0.75, 0.5, 0.1)
_ALPHAS = (1.0, 1.0, 1.0, 1.0)


def learning_rate(
    hp: keras_tuner.HyperParameters, config: AnyConfig, *, times: float = 5.0
) -> AnyConfig:
    """Returns `config` with the learning-rate schedule of the hyper-parameters.

    Args:
        hp: The hyper-parameters; missing ones are added.
        config: A complete configuration.
        times: The peak lies between that of `config` divided and multiplied by this number.

    Example:

    >>> import keras_tuner
    >>> config = keras_elu.training.Config(
    ...     learning_rate=0.1, learning_rate_schedule="cosine", learning_rate_warmup=0.1
    ... )
    >>> hp = keras_tuner.HyperParameters()
    >>> learning_rate(hp, config) == config
    True
    >>> hp.values["learning_rate_schedule"] = "knots"
    >>> hp.values |= {f"learning_rate_knots_{i}": i / 4 for i in range(5)}
    >>> learning_rate(hp, config).learning_rate_knots
    '0,0.25,0.5,0.75,1'
    """
    warmup, end = config.learning_rate_warmup, config.learning_rate_end
    found = {
        "learning_rate": _around(hp, "learning_rate", config, times),
        "learning_rate_schedule": hp.Choice(
            "learning_rate_schedule", [*_SHAPES, "knots"], default=config.learning_rate_schedule
        ),
    }
    with hp.conditional_scope("learning_rate_schedule", list(_SHAPES)):
        most = max(_LONGEST_WARMUP, warmup)
        found["learning_rate_warmup"] = hp.Float("learning_rate_warmup", 0.0, most, default=warmup)
    with hp.conditional_scope("learning_rate_schedule", ["cosine", "one_cycle"]):
        most = max(_LARGEST_END, end)
        found["learning_rate_end"] = hp.Float("learning_rate_end", 0.0, most, default=end)
    with hp.conditional_scope("learning_rate_schedule", ["knots"]):
        found["learning_rate_knots"] = _knots(hp, "learning_rate_knots", config, _RATES, 0.0, 1.0)
    if found["learning_rate_schedule"] == "knots":  # knots include the warm-up
        own = config.learning_rate_schedule == "knots"
        found["learning_rate_warmup"] = warmup if own else 0.0
    return _with(config, found)


def alpha(hp: keras_tuner.HyperParameters, config: AnyConfig, *, times: float = 2.0) -> AnyConfig:
    """Returns `config` with the schedule of alpha of the hyper-parameters.

    Args:
        hp: The hyper-parameters; missing ones are added.
        config: A complete configuration.
        times: Alpha starts between that of `config` divided and multiplied by this number, and ends
            between its start divided and multiplied by this number.

    Example:

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> alpha(hp, keras_elu.training.Config(alpha=0.5)).alpha
    0.5
    >>> hp.values |= {"alpha_schedule": "linear", "alpha_end": 2.0, "alpha_until": 0.5}
    >>> alpha(hp, keras_elu.training.Config(alpha=0.5)).alpha_end
    2.0
    """
    found = {
        "alpha": _around(hp, "alpha", config, times),
        "alpha_schedule": hp.Choice(
            "alpha_schedule",
            ["constant", "linear", "cosine", "knots"],
            default=config.alpha_schedule,
        ),
    }
    with hp.conditional_scope("alpha_schedule", ["linear", "cosine"]):
        end, until = config.alpha_end, config.alpha_until
        range_ = {"min_value": min(1 / times, end), "max_value": max(times, end)}
        found["alpha_end"] = hp.Float("alpha_end", **range_, sampling="log", default=end)
        found["alpha_until"] = hp.Float("alpha_until", min(0.1, until), 1.0, default=until)
    with hp.conditional_scope("alpha_schedule", ["knots"]):
        found["alpha_knots"] = _knots(
            hp, "alpha_knots", config, _ALPHAS, 1 / times, times, sampling="log"
        )
    return _with(config, found)


def _around(hp, name, config, times) -> float:
    usual = getattr(config, name)
    return hp.Float(name, usual / times, usual * times, sampling="log", default=usual)


def _knots(hp, name, config, usual, least, most, sampling="linear") -> str | None:
    """Returns the text of the flag; None if the schedule has no knots."""
    text = getattr(config, name)
    if text is not None:
        usual = [float(part) for part in text.split(",")]
    values = [
        hp.Float(f"{name}_{i}", min(least, v), max(most, v), sampling=sampling, default=v)
        for i, v in enumerate(usual)
    ]
    if None in values:
        return None
    return (
        text
        if text is not None and values == list(usual)
        else ",".join(map("{:.3g}".format, values))
    )


def _with(config: AnyConfig, found) -> AnyConfig:
    """Returns the configuration with the values found, without flags its schedules do not use."""
    unused = {
        name: getattr(training.Config, name) for name, value in found.items() if value is None
    }
    return dataclasses.replace(config, **found | unused)
