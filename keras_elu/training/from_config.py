"""Schedules and activations made from a configuration."""

import functools
from collections.abc import Callable

import keras

from keras_elu import layers, schedules
from keras_elu.training.config import Config

_MOST_KNOTS = 100


def learning_rate(
    config: Config,
    steps: int,
    piecewise: Callable[[int], schedules.PiecewiseConstant] = schedules.elu_cifar_11,
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate, a number or a schedule.

    Args:
        config: A configuration completed by `resolve`.
        steps: Number of steps of the whole training, positive.
        piecewise: Makes the schedule of that name from a number of steps. Its values are scaled to
            start at the learning rate.

    Raises:
        ValueError: If there are more knots than steps.

    Example:

    >>> config = Config(
    ...     learning_rate=2.0, learning_rate_schedule="cosine", learning_rate_warmup=0.2
    ... )
    >>> learning_rate(config, 100)(np.array([0, 10, 20, 100])).numpy().tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    peak, end = config.learning_rate, config.learning_rate_end
    warmup = int(steps * config.learning_rate_warmup)
    match config.learning_rate_schedule:
        case "piecewise":
            published = piecewise(steps - warmup)
            factor = peak / published.values[0]
            boundaries = [warmup + boundary for boundary in published.boundaries]
            values = [factor * rate for rate in published.values]
            return schedules.PiecewiseConstant(boundaries, values, warmup_steps=warmup)
        case "cosine":
            return schedules.Cosine(peak, steps, warmup_steps=warmup, end=peak * end)
        case "one_cycle":
            return schedules.OneCycle(peak, steps, config.learning_rate_warmup, end_factor=end)
        case "knots":
            knots, values = _path(config, "learning_rate_knots", peak, warmup, steps)
            return (
                schedules.Knots([0, *knots], [0.0, *values])
                if warmup
                else schedules.Knots(knots, values)
            )
    return schedules.Knots([0, warmup], [0.0, peak]) if warmup else peak


def alpha(config: Config, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns alpha, a number or a schedule.

    Args:
        config: The configuration.
        steps: Number of steps of the whole training, positive.

    Raises:
        ValueError: If there are more knots than steps.

    Example:

    >>> config = Config(alpha=2.0, alpha_schedule="linear", alpha_end=0.5, alpha_until=0.5)
    >>> alpha(config, 100)(np.array([0, 25, 50, 100])).numpy().tolist()
    [2.0, 1.5, 1.0, 1.0]
    """
    start, end = config.alpha, config.alpha * config.alpha_end
    changing = max(1, round(steps * config.alpha_until))
    match config.alpha_schedule:
        case "linear":
            return schedules.Linear(start, end, changing)
        case "cosine":
            return schedules.Cosine(start, changing, end=end)
        case "knots":
            return schedules.Knots(*_path(config, "alpha_knots", start, 0, steps))
    return start


def _path(config, name, unit, first, last) -> tuple[list[int], list[float]]:
    """Returns the steps, from `first` to `last`, and the values of the knots in a flag."""
    values = knots(config, name)
    if not values:
        raise ValueError(
            f"--{name.replace('knots', 'schedule')} knots needs --{name}, such as 1,0.5."
        )
    if len(values) > last - first + 1:
        raise ValueError(
            f"--{name} has {len(values)} knots for {last - first:,} steps: give fewer."
        )
    steps = [first + (last - first) * i // (len(values) - 1) for i in range(len(values))]
    return steps, [unit * value for value in values]


def knots(config: Config, name: str) -> list[float]:
    """Returns the numbers in a flag such as `--alpha_knots 1,0.5`, or none if it is not set."""
    text = getattr(config, name)
    if text is None:
        return []
    least, most = Config.__dataclass_fields__[name].metadata["between"]
    try:
        values = [float(part) for part in text.split(",")]
        right = 2 <= len(values) <= _MOST_KNOTS and all(least <= v <= most for v in values)
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"--{name} must be 2 to {_MOST_KNOTS} numbers from {least:g} to {most:g}, such as "
            f"1,0.5, not {text!r}."
        )
    return values


def activation(config: Config, steps: int) -> Callable[[], keras.layers.Layer] | None:
    """Returns a function that makes the activation of a hidden layer.

    With "auto", in a recipe that has this default, returns None, for the network's own activation.

    Args:
        config: The configuration.
        steps: Number of steps of the whole training, over which alpha may change.

    Raises:
        ValueError: If the activation is unknown, or a flag for alpha does not apply to it.
    """
    if config.activation == type(config).activation == "auto":
        return None
    make = layers.get(config.activation)
    if config.activation == "elu":
        return functools.partial(make, alpha=alpha(config, steps))
    for name, of in (("alpha_schedule", ("elu",)), ("alpha", ("elu", "parametric_elu"))):
        value = getattr(config, name)
        if config.activation not in of and value != getattr(Config, name):
            raise ValueError(
                f"--{name} {value} has no meaning for --activation {config.activation}: it is for "
                f"{' and '.join(of)}."
            )
    if config.activation == "parametric_elu":
        return functools.partial(make, alpha=config.alpha)
    return make
