"""Schedules: functions of the training step, for a learning rate or for an ELU's alpha.

Each schedule is a path through knots. Between two knots it is a constant, a line or half a cosine
wave; before the first knot and after the last one it is constant. Steps count from 0.

A schedule takes a Python integer, a NumPy array or a tensor of steps, and returns float32. At a
knot it returns exactly the given value. Steps are compared and subtracted as integers, because
float32, in which `keras.optimizers.schedules` computes, cannot tell steps above 2**24 apart.
"""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

__all__ = ["Cosine", "Knots", "Linear", "OneCycle", "PiecewiseConstant", "elu_cifar_11"]

_LAST_STEP = 2**31 - 1  # the largest integer of JAX by default


def _line(t):
    return t


def _wave(t):
    # (1 - cos(pi t)) / 2 without the cancellation near t = 0.
    return keras.ops.square(keras.ops.sin(t * (math.pi / 2)))


@dataclasses.dataclass(frozen=True)
class _Segment:
    """The path from `start` at step `left` to `end` at `right`; a constant without a `shape`."""

    left: int
    right: int
    start: float
    end: float
    shape: Callable | None

    def __call__(self, step):
        # Starting at the value nearer to zero keeps all digits of a decay to zero, and joins two
        # equal values by exactly that value.
        if abs(self.start) <= abs(self.end):
            low, gap, distance = self.start, self.end - self.start, step - self.left
        else:
            low, gap, distance = self.end, self.start - self.end, self.right - step
        t = keras.ops.cast(distance, "float32") / float(self.right - self.left)
        return low + gap * self.shape(keras.ops.clip(t, 0.0, 1.0))


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A frozen dataclass of numbers, with a path in `_segments`."""

    def _segments(self) -> list[_Segment]:
        raise NotImplementedError

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check = _CHECKS.get(field.name, _value)
            object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    def __call__(self, step):
        segments = self._segments()
        first, last = segments[0], segments[-1]
        if isinstance(step, (int, np.ndarray, np.generic)):
            step = np.asarray(
                np.clip(step, 0, last.right), "int32"
            )  # a larger step would overflow int32
        step = keras.ops.cast(keras.ops.clip(step, 0, last.right), "int32")
        value = keras.ops.full_like(step, first.start, dtype="float32")
        for segment in segments:
            if segment.shape is not None:
                value = keras.ops.where(step > segment.left, segment(step), value)
            value = keras.ops.where(step >= segment.right, np.float32(segment.end), value)
        return value

    def get_config(self) -> dict[str, Any]:
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def _value(name, value) -> float:
    if not _is_number(value, numbers.Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r}: give a finite number, 0 or larger.")
    return float(value)


def _fraction(name, value) -> float:
    if not _is_number(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r}: give a number from 0 to 1.")
    return float(value)


def _step(name, value, least=1) -> int:
    if not _is_number(value, numbers.Integral) or not least <= value <= _LAST_STEP:
        raise ValueError(f"{name}={value!r}: give a whole number from {least} to {_LAST_STEP}.")
    return int(value)


def _is_number(value, kind) -> bool:
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def _sequence(name, value, check) -> tuple:
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) != 1 or not len(value):
        raise ValueError(f"{name}={value!r}: give a list of numbers.")
    return tuple(check(name, v) for v in value)


# The check for each argument, by name. All other arguments are values.
_CHECKS = {
    "steps": _step,
    "warmup_steps": lambda name, value: _step(name, value, least=0),
    "warmup_fraction": _fraction,
    "boundaries": lambda name, value: _sequence(name, value, _step),
    "knots": lambda name, value: _sequence(name, value, lambda n, v: _step(n, v, least=0)),
    "values": lambda name, value: _sequence(name, value, _value),
}


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class PiecewiseConstant(_Schedule):
    """Constant between boundaries.

    Returns `values[i]` for `boundaries[i - 1] <= step < boundaries[i]`. With a boundary of 100,
    step 100 is the first with the next value, while
    `keras.optimizers.schedules.PiecewiseConstantDecay` still returns the previous one there.

    Args:
        boundaries: Steps in ascending order, 1 or larger.
        values: Finite numbers, 0 or larger, one more than boundaries.
        warmup_steps: Number of steps of a linear warm-up from 0 to the first value, at most the
            first boundary.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> PiecewiseConstant([100], [1.0, 0.5])(np.array([0, 99, 100, 1000])).numpy().tolist()
    [1.0, 1.0, 0.5, 0.5]
    """

    boundaries: Sequence[int]
    values: Sequence[float]
    warmup_steps: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_steps > min(self.boundaries):
            raise ValueError(
                f"warmup_steps={self.warmup_steps}: give at most the first boundary, "
                f"{min(self.boundaries)}."
            )
        if list(self.boundaries) != sorted(self.boundaries):
            raise ValueError(f"boundaries={list(self.boundaries)}: give them in ascending order.")
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.values)} values for {len(self.boundaries)} boundaries: give one value "
                "more than boundaries."
            )

    def _segments(self):
        values = itertools.pairwise(self.values)
        steps = itertools.pairwise((self.warmup_steps, *self.boundaries))
        constant = [_Segment(*s, *v, shape=None) for s, v in zip(steps, values, strict=True)]
        if not self.warmup_steps:
            return constant
        return [_Segment(0, self.warmup_steps, 0.0, self.values[0], _line), *constant]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class Knots(_Schedule):
    """Straight lines between knots, for schedules of any shape.

    Args:
        knots: Two or more steps in strictly ascending order, 0 or larger.
        values: Finite numbers, 0 or larger, one for each knot.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> Knots([0, 10, 30], [0.0, 1.0, 0.5])(np.array([5, 10, 20, 99])).numpy().tolist()
    [0.5, 1.0, 0.75, 0.5]
    """

    knots: Sequence[int]
    values: Sequence[float]

    def __post_init__(self):
        super().__post_init__()
        if len(self.knots) < 2 or any(a >= b for a, b in itertools.pairwise(self.knots)):
            raise ValueError(f"knots={list(self.knots)}: give two or more, in ascending order.")
        if len(self.values) != len(self.knots):
            raise ValueError(
                f"{len(self.values)} values for {len(self.knots)} knots: give one for each knot."
            )

    def _segments(self):
        values, steps = itertools.pairwise(self.values), itertools.pairwise(self.knots)
        return [_Segment(*s, *v, shape=_line) for s, v in zip(steps, values, strict=True)]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class Linear(_Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`.

    Args:
        start: Finite number, 0 or larger.
        end: Finite number, 0 or larger.
        steps: Number of steps, positive.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> Linear(start=1.0, end=0.5, steps=100)(np.array([0, 50, 100, 200])).numpy().tolist()
    [1.0, 0.75, 0.5, 0.5]
    """

    start: float
    end: float
    steps: int

    def _segments(self):
        return [_Segment(0, self.steps, self.start, self.end, _line)]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class Cosine(_Schedule):
    """A linear warm-up from `start` to `peak`, then half a cosine wave down to `end`.

    Args:
        peak: Finite number, 0 or larger.
        steps: Total number of steps, including the warm-up, positive.
        warmup_steps: Number of warm-up steps, less than `steps`. With 0 the schedule starts at the
            peak.
        end: Value from step `steps` on; a finite number, 0 or larger.
        start: Value at step 0 if there is a warm-up; a finite number, 0 or larger.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> schedule = Cosine(peak=1.0, steps=120, warmup_steps=20)
    >>> schedule(np.array([0, 10, 20, 70, 120])).numpy().round(6).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    peak: float
    steps: int
    warmup_steps: int = 0
    end: float = 0.0
    start: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} of {self.steps} steps: give fewer.")

    def _segments(self):
        decay = _Segment(self.warmup_steps, self.steps, self.peak, self.end, _wave)
        if not self.warmup_steps:
            return [decay]
        return [_Segment(0, self.warmup_steps, self.start, self.peak, _line), decay]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class OneCycle(_Schedule):
    """Half a cosine wave up to `peak`, and another one down.

    The defaults are those of `torch.optim.lr_scheduler.OneCycleLR`: it rises from 1/25 of the peak
    during 30% of the steps, and falls to 1/250,000 of it.

    Args:
        peak: Finite number, 0 or larger.
        steps: Total number of steps, positive.
        warmup_fraction: Fraction of the steps in which the value rises, from 0 to 1.
        start_factor: Value at step 0, as a fraction of the peak; a finite number, 0 or larger.
        end_factor: Value from step `steps` on, as a fraction of the peak; a finite number, 0 or
            larger.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> schedule = OneCycle(peak=1.0, steps=100, start_factor=0.5, end_factor=0.0)
    >>> schedule(np.array([0, 15, 30, 100])).numpy().tolist()
    [0.5, 0.75, 1.0, 0.0]

    Reference:
        [Smith and Topin, 2017](https://arxiv.org/abs/1708.07120).
    """

    peak: float
    steps: int
    warmup_fraction: float = 0.3
    start_factor: float = 0.04
    end_factor: float = 4e-6

    def _segments(self):
        top = round(self.steps * self.warmup_fraction)
        values = self.peak * self.start_factor, self.peak, self.peak * self.end_factor
        rise = _Segment(0, top, values[0], values[1], _wave)
        fall = _Segment(top, self.steps, values[1], values[2], _wave)
        return [segment for segment in (rise, fall) if segment.left < segment.right]


def elu_cifar_11(steps: int) -> PiecewiseConstant:
    """Returns the learning rates of the paper's network of 11 convolutions, scaled to `steps`.

    The rates are 0.01, 0.005, 0.0005 and 0.00005. They change after 35/165, 85/165 and 135/165 of
    the steps. The paper trains for 165,000 steps of 100 images.

    Args:
        steps: Total number of steps, positive.

    Raises:
        ValueError: If `steps` is not a positive whole number.

    Example:

    >>> elu_cifar_11(165_000).boundaries
    (35000, 85000, 135000)

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.2.
    """
    steps = _step("steps", steps)
    # Rounded up: even the shortest training starts with the first rate.
    boundaries = [-(-steps * thousands // 165) for thousands in (35, 85, 135)]
    return PiecewiseConstant(boundaries, [0.01, 0.005, 0.0005, 0.00005])
