"""Exact paired tests, against SciPy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_elu.experiments import orderings, page, tables
from keras_elu.experiments.experiment import Ordering


def test_the_signed_rank_test_is_that_of_scipy():
    random = np.random.default_rng(0)
    for count in (1, 3, 5, 10):
        differences = random.normal(0.5, 1, count)
        expected = stats.wilcoxon(differences, alternative="greater", method="exact").pvalue
        assert orderings.signed_rank(list(differences)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 1 / 8),
        ([-1, -2, -3], 1),
        ([1, 1, -1], 1 / 2),  # equal sizes: at least two of three signs
        ([0, 2], 1 / 2),  # a zero says nothing
        ([0, 0], 1),
        ([1, 2, math.inf], 1 / 8),  # a run that diverged is the worst
        ([1, 2, -math.inf], 5 / 8),
    ],
)
def test_ties_zeros_and_infinities_have_a_place(differences, p):
    assert orderings.signed_rank(differences) == p


def test_differences_of_as_many_images_are_equal():
    """Worked out by hand: the ranks are 2, 4, 2 and 2, and 8 of the 16 sums are at least 6."""
    images = [-2, 0, 6, 2, -2]
    for right in range(5_100, 9_900):
        first = np.float32(right / 10_000)
        noisy = [float(first) - float(np.float32((right - n) / 10_000)) for n in images]
        assert orderings.signed_rank(noisy) == 8 / 16
    # Float64 has noise, too; single images of a large test set are no noise.
    assert 0.3 - 0.2 < 0.1
    assert orderings.signed_rank([0.3 - 0.2, 0.1, -0.1]) == 1 / 2
    assert orderings.signed_rank([2e-6, -1e-6]) == 2 / 4


def test_too_many_pairs_are_refused():
    with pytest.raises(ValueError, match="at most 20"):
        orderings.signed_rank([1.0] * 21)


def run(arm, seed, error, case="", diverged=None):
    found = {"arm": arm, "case": case, "seed": seed, "diverged": diverged}
    return found | {
        "test": {"accuracy": 1 - error, "loss": error},
        "curves": {"loss": [error]},
    }


def test_runs_are_paired_by_case_and_seed():
    experiment = tables.EXPERIMENTS["batch_norm"]
    assert experiment.orderings == (Ordering("test error", ("relu", "elu")),)
    runs = [
        *(run("elu", 0, 0.3), run("elu", 1, 0.1), run("elu", 2, 0.5)),
        *(run("relu", 1, 0.2), run("relu", 0, 0.1)),
    ]
    (found,) = orderings.compare(experiment, runs)
    assert (found.lower, found.higher) == ("relu", "elu")
    assert found.differences == pytest.approx((-0.1, 0.2))
    assert found.p == 2 / 4
    assert found.mean == pytest.approx(0.05)


def test_a_run_that_diverged_is_higher_and_two_are_equal():
    experiment = tables.EXPERIMENTS["autoencoder"]
    runs = [
        *(run("elu", 0, 0.3, "1e-2", diverged=7), run("relu", 0, 0.1, "1e-2", diverged=9)),
        *(run("elu", 0, 0.3, "1e-3"), run("relu", 0, 0.1, "1e-3", diverged=9)),
    ]
    (found,) = [f for f in orderings.compare(experiment, runs) if f.measure == "test loss"]
    assert found.differences == (0, math.inf)


def test_runs_of_both_arms_that_diverged_leave_no_mean():
    experiment = tables.EXPERIMENTS["batch_norm"]
    runs = [
        *(run("relu", 0, 0.1, diverged=7), run("elu", 0, 0.3)),
        *(run("relu", 1, 0.2), run("elu", 1, 0.3, diverged=9)),
    ]
    (found,) = orderings.compare(experiment, runs)
    assert found.differences == (-math.inf, math.inf)
    assert math.isnan(found.mean)
    assert found.p == 3 / 4
    for made in runs:
        made |= {"commit": "0", "versions": {}, "seconds": 1, "processor": "CPU"}
    text = page.block(experiment, {"runs": runs, "command": "python"})
    assert "| test error: relu < elu | 2 | 1 | - | 0.75 |" in text
