"""Exact paired tests of the orderings that an experiment claims."""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from keras_elu.experiments.experiment import Experiment

_MOST = 20  # pairs, of which all signs are enumerated
# Accuracies are float32: where 27 more of 10,000 images are right, they differ by 0.0026999712 or
# 0.0027000308. Between 0.5 and 1 float32 has steps of 2**-24, so two such differences are within
# 2**-23. A single image is more, in any test set of less than four million.
_equal = functools.partial(math.isclose, abs_tol=2**-22)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two arms, compared pair by pair.

    Args:
        measure: Name of the number.
        lower: The arm with the lower number, as claimed.
        higher: The other arm.
        differences: Higher less lower, of each pair of runs; positive where the claim holds.
        p: Probability of differences as favourable to the claim if their signs were random.
    """

    measure: str
    lower: str
    higher: str
    differences: tuple[float, ...]
    p: float

    @property
    def mean(self) -> float:
        """The mean difference; infinite if a run has diverged, and NaN if one of each arm has."""
        if {math.inf, -math.inf} <= set(self.differences):
            return math.nan
        return statistics.fmean(self.differences)


def compare(experiment: Experiment, runs: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Returns the comparisons of neighbouring arms in the orderings of an experiment.

    Args:
        experiment: The experiment.
        runs: Those in its file of results. Arms without a common pair are left out.
    """
    found = []
    for ordering in experiment.orderings:
        measure = experiment.measures[ordering.measure]
        for lower, higher in itertools.pairwise(ordering.arms):
            both = [
                {(run["case"], run["seed"]): run for run in runs if run["arm"] == arm}
                for arm in (lower, higher)
            ]
            pairs = [key for key in both[0] if key in both[1]]
            if not pairs:
                continue
            a, b = ([measure(of[key], runs) for key in pairs] for of in both)
            differences = tuple(map(_difference, a, b))
            p = signed_rank(differences)
            found.append(Comparison(ordering.measure, lower, higher, differences, p))
    return found


def signed_rank(differences: Sequence[float]) -> float:
    """Returns the p-value of Wilcoxon's signed-rank test, one-sided and exact.

    It is the share of all combinations of signs whose positive ranks have at least the sum of those
    of the differences. Differences of zero are left out; equal ones share their mean rank. Numbers
    within `2**-22`, the rounding error of accuracies in float32, are equal.

    Args:
        differences: At most 20 numbers, which may be infinite.

    Example:

    >>> signed_rank([1.0, 2.0, 3.0]), signed_rank([-1.0, 2.0, 3.0])
    (0.125, 0.25)
    """
    kept = [d for d in differences if not _equal(d, 0)]
    if len(kept) > _MOST:
        raise ValueError(f"{len(kept)} pairs are too many to enumerate: give at most {_MOST}.")
    sizes = [abs(d) for d in kept]
    ties = [sum(_equal(other, size) for other in sizes) for size in sizes]
    below = [sum(other < size and not _equal(other, size) for other in sizes) for size in sizes]
    ranks = [lower + (1 + same) / 2 for lower, same in zip(below, ties, strict=True)]
    observed = sum(rank for rank, d in zip(ranks, kept, strict=True) if d > 0)
    sums = (sum(itertools.compress(ranks, signs)) for signs in _signs(len(kept)))
    return sum(total >= observed for total in sums) / 2 ** len(kept)


def _signs(count: int):
    return itertools.product((False, True), repeat=count)


def _difference(lower: float, higher: float) -> float:
    return 0.0 if math.isinf(lower) and math.isinf(higher) else higher - lower
