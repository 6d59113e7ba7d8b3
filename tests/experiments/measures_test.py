"""Numbers of runs, worked out by hand."""

import math

import pytest

from keras_elu.experiments import measures


def run(diverged=None, **curves):
    return {"curves": curves, "diverged": diverged, "steps": 100, "test": {"accuracy": 0.75}}


def test_early_and_late_epochs_are_the_first_25_and_the_others():
    loss = [4.0] * 25 + [-1.0, 3.0] * 20
    assert measures.early("loss")(run(loss=loss), []) == 4
    assert measures.late_size("loss")(run(loss=loss), []) == 2
    assert measures.last("loss")(run(loss=loss), []) == 3


def test_a_short_run_has_two_halves():
    assert measures.early("loss")(run(loss=[1.0, 3.0, 5.0, 5.0]), []) == 2
    assert measures.late_size("loss")(run(loss=[1.0, 3.0, 5.0, -7.0]), []) == 6


def test_steps_count_to_the_error_that_all_runs_reach():
    runs = [run(val_error=[0.5, 0.31, 0.2, 0.25]), run(val_error=[0.6, 0.5, 0.4, 0.305])]
    assert measures.common_error(runs) == 0.31
    assert [measures.steps_to_common_error(r, runs) for r in runs] == [50, 100]


def test_a_thousand_images_take_the_median_time():
    assert measures.seconds_per_thousand(run(images_per_second=[1.0, 500.0, 600.0]), []) == 2


def test_a_run_that_diverged_has_no_numbers():
    gone = run(diverged=3)
    for measure in (measures.last("loss"), measures.early("loss"), measures.test_error):
        assert measure(gone, [gone]) == math.inf
    assert measures.test_error(run(), []) == pytest.approx(0.25)
