"""Schedules: functions of the training step, for a learning rate or for an ELU's alpha.

Each is a path through knots, and between two knots a constant, a line or half a cosine wave. Steps
count from 0; before the first knot and after the last one the value is constant. A schedule takes
a Python integer, a NumPy array or a tensor of steps and gives float32. At a knot the value is the
one that was asked for, to the bit, and steps are compared and subtracted as integers: float32,
in which `keras.optimizers.schedules` computes, cannot tell steps above 2**24 apart.
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

_LAST_STEP = 2**31 - 1  # JAX has no integers above it unless asked for


def _line(t):
    return t


def _wave(t):
    # (1 - cos(pi t)) / 2 without the cancellation near t = 0.
    return keras.ops.square(keras.ops.sin(t * (math.pi / 2)))


@dataclasses.dataclass(frozen=True)
class _Segment:
    """The path from value `start` at step `left` to `end` at `right`; no shape is a constant."""

    left: int
    right: int
    start: float
    end: float
    shape: Callable | None

    def __call__(self, step):
        # From the value nearer to zero, so that a decay to zero loses no digits on its way, and
        # two equal values are joined by exactly that value.
        if abs(self.start) <= abs(self.end):
            low, gap, distance = self.start, self.end - self.start, step - self.left
        else:
            low, gap, distance = self.end, self.start - self.end, self.right - step
        t = keras.ops.cast(distance, "float32") / float(self.right - self.left)
        return low + gap * self.shape(keras.ops.clip(t, 0.0, 1.0))


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A frozen dataclass of numbers whose `_segments` are its path."""

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
            step = np.asarray(np.clip(step, 0, last.right), "int32")  # it may exceed an int32
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
        raise ValueError(f"{name}={value!r}: give a finite number that is not negative.")
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


# How the arguments of each name are checked; all the others are values.
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

    `values[i]` on the steps `boundaries[i - 1] <= step < boundaries[i]`: "0.1 for 100 steps" is the
    boundary 100, and step 100 is the first with the next value.
    `keras.optimizers.schedules.PiecewiseConstantDecay` gives step 100 the old one still.

    Args:
        boundaries: Steps from 1, none below the one before it.
        values: Finite numbers, none negative, one more than boundaries.
        warmup_steps: Number of steps on which the first value is reached from 0 in a straight line,
            at most the first boundary.

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
            raise ValueError(f"boundaries={list(self.boundaries)}: give them in rising order.")
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
    """Straight lines between knots, which can take any shape: the one to search over.

    Args:
        knots: Steps from 0, each above the one before it; two or more.
        values: Finite numbers, none negative, one a knot.

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
            raise ValueError(f"knots={list(self.knots)}: give two or more, in rising order.")
        if len(self.values) != len(self.knots):
            raise ValueError(
                f"{len(self.values)} values for {len(self.knots)} knots: give one value a knot."
            )

    def _segments(self):
        values, steps = itertools.pairwise(self.values), itertools.pairwise(self.knots)
        return [_Segment(*s, *v, shape=_line) for s, v in zip(steps, values, strict=True)]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class Linear(_Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`.

    Args:
        start: Finite number, not negative.
        end: Finite number, not negative.
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
    """A straight warm-up from `start` to `peak`, then half a cosine wave down to `end`.

    Args:
        peak: Finite number, not negative.
        steps: Number of steps in all, warm-up included, positive.
        warmup_steps: Number of steps of warm-up, fewer than `steps`; 0 starts at the peak.
        end: Finite number, not negative: the value from step `steps` on.
        start: Finite number, not negative: the value at step 0 if there is a warm-up.

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
            raise ValueError(
                f"warmup_steps={self.warmup_steps} of {self.steps} steps: give fewer than all."
            )

    def _segments(self):
        decay = _Segment(self.warmup_steps, self.steps, self.peak, self.end, _wave)
        if not self.warmup_steps:
            return [decay]
        return [_Segment(0, self.warmup_steps, self.start, self.peak, _line), decay]


@keras.saving.register_keras_serializable("keras_elu")
@dataclasses.dataclass(frozen=True)
class OneCycle(_Schedule):
    """Half a cosine wave up to `peak` and another one down.

    The defaults are those of `torch.optim.lr_scheduler.OneCycleLR`: a rise over 30% of the steps
    from a 25th of the peak, and a fall to a 250,000th of it.

    Args:
        peak: Finite number, not negative.
        steps: Number of steps in all, positive.
        warmup_fraction: Part of the steps on which the value rises, from 0 to 1.
        start_factor: Finite number, not negative: the value at step 0 over the peak.
        end_factor: Finite number, not negative: the value from step `steps` on over the peak.

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
    """Returns the learning rates of the paper's 11-convolution network, scaled to any length.

    0.01, 0.005, 0.0005 and 0.00005, changing after 35, 85 and 135 165ths of the steps. In the
    paper these are thousands of iterations, each of 100 images.

    Args:
        steps: Number of steps of the whole training, positive.

    Raises:
        ValueError: If `steps` is not a positive whole number.

    Example:

    >>> elu_cifar_11(165_000).boundaries
    (35000, 85000, 135000)

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.2.
    """
    steps = _step("steps", steps)
    # Rounded up: a short training starts with the first rate too.
    boundaries = [-(-steps * thousands // 165) for thousands in (35, 85, 135)]
    return PiecewiseConstant(boundaries, [0.01, 0.005, 0.0005, 0.00005])
