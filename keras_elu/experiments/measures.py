"""Numbers of a run, from its part of a file of results."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Mapping[str, Any]
WARM_UP = 25  # epochs; shorter runs count their first half


def last(curve: str) -> Callable:
    """Returns the measure that is the value of a curve after the last epoch.

    Example:

    >>> last("loss")({"curves": {"loss": [2.0, 1.0]}, "diverged": None}, [])
    1.0
    """
    return _finite(lambda run, runs: run["curves"][curve][-1])


def early(curve: str) -> Callable:
    """Returns the measure that is the mean of a curve over the first 25 epochs."""
    return _finite(lambda run, runs: statistics.fmean(run["curves"][curve][: _warm_up(run, curve)]))


def late_size(curve: str) -> Callable:
    """Returns the measure that is the mean absolute value of a curve after the first 25 epochs."""
    return _finite(
        lambda run, runs: statistics.fmean(map(abs, run["curves"][curve][_warm_up(run, curve) :]))
    )


def test_error(run: Run, runs: Sequence[Run]) -> float:
    """The share of test images that the final model classifies wrongly."""
    return math.inf if run["diverged"] else 1 - run["test"]["accuracy"]


def test_loss(run: Run, runs: Sequence[Run]) -> float:
    """The test loss of the final model."""
    return math.inf if run["diverged"] else run["test"]["loss"]


def pflop(run: Run, runs: Sequence[Run]) -> float:
    """The arithmetic of the training, in 10**15 floating-point operations."""
    return math.inf if run["diverged"] else run["pflop"]


def steps_to_common_error(run: Run, runs: Sequence[Run]) -> float:
    """The steps to the lowest validation error, in whole percents, that all runs reach."""
    if run["diverged"]:
        return math.inf
    error = common_error(runs)
    errors = run["curves"]["val_error"]
    epochs = next(i for i, value in enumerate(errors, start=1) if value <= error)
    return epochs * run["steps"] / len(errors)


def common_error(runs: Sequence[Run]) -> float:
    """Returns the lowest validation error, in whole percents, that all runs reach.

    Example:

    >>> curves = [[0.5, 0.301], [0.4, 0.25]]
    >>> common_error([{"curves": {"val_error": c}, "diverged": None} for c in curves])
    0.31
    """
    best = [min(run["curves"]["val_error"]) for run in runs if not run["diverged"]]
    return math.ceil(100 * max(best)) / 100


def seconds_per_thousand(run: Run, runs: Sequence[Run]) -> float:
    """The training time of a thousand images, in seconds: the median over the epochs."""
    if run["diverged"]:
        return math.inf
    return 1000 / statistics.median(run["curves"]["images_per_second"])


def _warm_up(run: Run, curve: str) -> int:
    return max(1, min(WARM_UP, len(run["curves"][curve]) // 2))


def _finite(measure: Callable) -> Callable:
    return lambda run, runs: math.inf if run["diverged"] else measure(run, runs)
