"""Oracles lose no trial. Nothing is trained here, and the clock is set by hand."""

import itertools
import json

import keras_tuner
import pytest

from keras_elu.tuning import oracles, outcomes

COMPLETE, PRUNED, FAILED = outcomes.COMPLETE, outcomes.PRUNED, outcomes.FAILED


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when seconds are added."""
    seconds = [0.0]
    monkeypatch.setattr(oracles.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def make(tmp_path):
    (tmp_path / "trials").mkdir()

    def make(tuner="random", max_trials=3, epochs=9, direction="min"):
        hp = keras_tuner.HyperParameters()
        hp.Float("x", 0.0, 1.0, default=0.5)
        hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("y", 0.0, 1.0, default=0.25)
        return oracles.make(
            tuner,
            hp,
            objective="val_loss",
            direction=direction,
            max_trials=max_trials,
            epochs=epochs,
            seed=0,
            folder=tmp_path,
        )

    return make


def end(oracle, trial, value=None, status=COMPLETE, epochs=9, values=None):
    reason = None if status == COMPLETE else "a reason"
    values = values or [value]
    outcome = outcomes.Outcome(
        status=status, value=value, epochs=epochs, values=values, reason=reason
    )
    outcomes.write(oracle._trials, trial.trial_id, outcome)
    oracle.end_trial(trial)


def test_the_first_trial_is_the_default_and_a_worker_who_asks_again_gets_its_trial_again(make):
    oracle = make()
    first = oracle.create_trial("one")
    assert first.hyperparameters.values == {"x": 0.5, "kind": "a"}
    assert oracle.create_trial("one") is first
    assert oracle.create_trial("two").trial_id != first.trial_id


def test_the_trial_of_a_silent_worker_goes_to_another_that_waited(make, clock):
    oracle = make(max_trials=2)
    first, second = oracle.create_trial("one"), oracle.create_trial("two")
    end(oracle, second, 0.5)
    assert oracle.create_trial("two").status == "IDLE"  # keras-tuner would let it exit
    clock[0] += oracles.LEASE - 1
    oracle.update_trial(first.trial_id, {})
    clock[0] += oracles.LEASE - 1
    assert oracle.create_trial("two").status == "IDLE"
    assert not oracle.may_close()
    clock[0] += 2
    again = oracle.create_trial("two")
    assert (again.trial_id, again.status) == (first.trial_id, "RUNNING")
    end(oracle, again, 0.4)
    assert oracle.create_trial("two").status == "STOPPED"
    assert oracle.over


def test_the_end_of_a_trial_counts_once_even_if_two_workers_report_it(make, clock):
    oracle = make(max_trials=1)
    trial = oracle.create_trial("slow")
    clock[0] += oracles.LEASE + 1
    assert oracle.create_trial("quick").trial_id == trial.trial_id
    end(oracle, trial, 0.5)  # by the slow worker, which was alive
    oracle.end_trial(trial)
    assert oracle.end_order == [trial.trial_id]
    assert oracle.create_trial("quick").status == oracle.create_trial("slow").status == "STOPPED"


def test_a_trial_that_was_lost_and_ended_is_not_run_again(make, clock):
    oracle = make(max_trials=1)
    trial = oracle.create_trial("slow")
    oracle.release("slow")
    end(oracle, trial, 0.5)
    assert oracle.create_trial("other").status == "STOPPED"


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_killed_after_any_change_it_resumes_from_the_same_state(make, tuner, tmp_path):
    """An oracle that is restored before every call does the same as one that is not."""
    seen, trials = [], {"random": 9, "bayesian": 3, "hyperband": None}[tuner]
    for restored in (False, True):
        oracle = make(tuner, trials)
        drawn = {}
        for n in itertools.count():
            oracle = make(tuner, trials) if restored else oracle
            trial = oracle.create_trial(f"worker {n % 2}")
            if trial.status == "STOPPED":
                break
            if trial.status == "IDLE":
                continue
            drawn[trial.trial_id] = dict(trial.hyperparameters.values)
            oracle = make(tuner, trials) if restored else oracle
            status = FAILED if n % 4 == 3 else COMPLETE
            x = None if status == FAILED else drawn[trial.trial_id]["x"]
            end(oracle, trial, x, status, drawn[trial.trial_id].get("tuner/epochs", 9))
        seen.append(drawn)
        assert set(oracle.ended) == set(drawn)
        assert len(drawn) == (trials or oracles.hyperband_trials(9))
        (tmp_path / "oracle.json").unlink()
        for path in (tmp_path / "trials").iterdir():
            path.unlink()
    if tuner != "bayesian":  # its Gaussian process may draw other points after a restart
        assert seen[0] == seen[1]


def test_a_worker_keeps_its_trial_when_the_chief_restarts_and_loses_it_when_silent(make, clock):
    first = make(max_trials=1).create_trial("one")
    oracle = make(max_trials=1)
    assert oracle.create_trial("two").status == "IDLE"
    assert oracle.create_trial("one").trial_id == first.trial_id
    clock[0] += oracles.LEASE + 1
    assert oracle.create_trial("two").trial_id == first.trial_id


def test_the_state_is_whole_in_one_file_and_a_full_disk_does_not_end_the_search(
    make, tmp_path, monkeypatch, capsys
):
    oracle = make(max_trials=2)
    trial = oracle.create_trial("one")
    before = (tmp_path / "oracle.json").read_text()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("pathlib.Path.write_text", full)
        oracle.save()
        oracle.save()
    assert capsys.readouterr().err.count("No space left") == 1
    assert (tmp_path / "oracle.json").read_text() == before
    end(oracle, trial, 0.5)
    held = json.loads((tmp_path / "oracle.json").read_text())
    assert [t["status"] for t in held["trials"]] == ["COMPLETED"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["oracle.json", "trials"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 9, 10, 27, 50])
def test_hyperband_has_the_number_of_trials_it_promises_and_its_last_are_complete(make, epochs):
    oracle = make("hyperband", None, epochs)
    longest = 0
    while (trial := oracle.create_trial("one")).status == "RUNNING":
        length = trial.hyperparameters.values["tuner/epochs"]
        longest += length == epochs
        end(oracle, trial, trial.hyperparameters.values["x"], epochs=length)
    assert trial.status == "STOPPED"
    assert len(oracle.ended) == oracles.hyperband_trials(epochs)
    assert longest >= 1


def test_hyperband_with_too_few_trials_is_refused(make):
    with pytest.raises(ValueError, match="needs 23 trials for 9 epochs"):
        make("hyperband", 22)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_trial_worse_than_the_median_of_the_others_is_pruned(make, direction):
    sign = 1 if direction == "min" else -1

    def go(oracle, values):
        """The epoch after which a trial with these values is pruned; None if it is not."""
        trial = oracle.create_trial("one")
        for epoch, value in enumerate(values, 1):
            status = oracle.update_trial(trial.trial_id, {"val_loss": sign * value}, epoch).status
            if status == "STOPPED":
                end(oracle, trial, sign * value, PRUNED, epoch)
                return epoch
        end(oracle, trial, sign * value)
        return None

    oracle = make(max_trials=20, direction=direction)
    assert [go(oracle, [level] * 9) for level in (1, 2, 3, 4, 5)] == [None] * 5
    assert go(oracle, [3.1] * 9) == 3  # no trial is pruned in its first third
    assert go(oracle, [2.9] * 9) is None
    assert go(oracle, [9] * 2 + [0.5] * 7) is None
    assert go(oracle, [2] + [9] * 8) is None  # it was good once


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_trial_is_trained_again_only_if_its_mean_is_no_worse_than_the_median(make, direction):
    sign = 1 if direction == "min" else -1

    def answer(oracle, mean, trainings):
        trial = oracle.create_trial("one")
        return oracle.update_trial(trial.trial_id, {oracles.MEAN: sign * mean}, trainings).status

    oracle = make(max_trials=20, direction=direction)
    # After one training the others' median is 3, after two it is 5.
    for first, second in ((1, 9), (2, 8), (3, 7), (4, 1), (5, 3)):
        assert answer(oracle, 99, 1) == "RUNNING"  # too few are complete
        values = [sign * value for value in (first, second, 1000)]
        end(oracle, oracle.create_trial("one"), sign * (first + second), values=values)
    end(oracle, oracle.create_trial("one"), sign * 100, PRUNED, values=[sign * 100])
    assert answer(oracle, 3, 1) == "RUNNING"
    assert answer(oracle, 3.1, 1) == "STOPPED"
    assert answer(oracle, 5, 2) == "RUNNING"
    assert answer(oracle, 5.1, 2) == "STOPPED"


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_pruned_trial_scores_no_better_than_the_median_to_which_it_lost(make, direction):
    sign = 1 if direction == "min" else -1
    oracle = make(max_trials=20, direction=direction)
    for value in (4, 5, 6):
        end(oracle, oracle.create_trial("one"), sign * value)
    scores = []
    for value in (1, 9):  # the first had a lucky seed
        trial = oracle.create_trial("one")
        end(oracle, trial, sign * value, PRUNED)
        scores.append(oracle.trials[trial.trial_id].score)
    assert scores == [sign * 5, sign * 9]


def test_hyperband_prunes_no_trial_by_the_median(make):
    oracle = make("hyperband", None)
    for value in range(6):
        end(oracle, oracle.create_trial("one"), value)
    trial = oracle.create_trial("one")
    assert oracle.update_trial(trial.trial_id, {oracles.MEAN: 99.0}, 1).status == "RUNNING"
    assert oracle.update_trial(trial.trial_id, {"val_loss": 99.0}, 9).status == "RUNNING"


def test_a_failed_trial_scores_as_the_worst(make):
    oracle = make(max_trials=9)
    failed = oracle.create_trial("one")
    end(oracle, failed, None, FAILED)
    for value in (0.3, 0.9, 0.5):
        end(oracle, oracle.create_trial("one"), value)
    oracle.create_trial("one")
    assert oracle.trials[failed.trial_id].score == 0.9
    assert oracle.trials[failed.trial_id].message == "a reason"
