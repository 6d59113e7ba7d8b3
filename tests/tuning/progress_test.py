"""The lines that a search prints."""

import types

import pytest

from keras_elu.tuning import outcomes, progress
from keras_elu.tuning.outcomes import COMPLETE, FAILED, Outcome


class Search:
    """A search of four trials."""

    total = 4

    def __init__(self, ended):
        self._ended = ended

    def line(self, trial, outcome):
        return f"trial {trial} {outcome.status}"

    def best(self):
        return outcomes.best(self._ended, "min", 9)


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when seconds are added."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def start(ended):
    return progress.Progress(Search(ended), types.SimpleNamespace(ended=ended))


def complete(value):
    return Outcome(status=COMPLETE, value=value, epochs=9, values=[value])


def test_every_trial_has_one_line_with_the_best_so_far_and_the_time_left(clock, capsys):
    ended = {}
    shown = start(ended)
    shown.update()
    assert capsys.readouterr().out == ""
    ended["0"] = Outcome(status=FAILED, value=None, epochs=0, reason="a reason")
    clock[0] = 60
    shown.update()
    shown.update()
    assert capsys.readouterr().out == "trial 0 failed  (best none yet; 1/4, 03:00 left)\n"
    ended |= {"2": complete(0.25), "1": complete(0.5)}
    clock[0] = 90
    shown.update()
    best = "(best 0.25 of trial 2; 3/4, 00:30 left)"
    assert capsys.readouterr().out.splitlines() == [
        f"trial 1 complete  {best}",
        f"trial 2 complete  {best}",
    ]
    shown.close()


def test_a_resumed_search_counts_earlier_trials_but_not_their_time(clock, capsys):
    ended = {"0": complete(0.5), "1": complete(0.25)}
    shown = start(ended)
    assert capsys.readouterr().out == "resuming after 2 of 4 trials\n"
    ended["2"] = complete(0.75)
    clock[0] = 40
    shown.update()
    expected = "trial 2 complete  (best 0.25 of trial 1; 3/4, 00:40 left)\n"
    assert capsys.readouterr().out == expected
    shown.close()


def test_a_search_with_a_closed_stderr_prints_its_lines(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)  # as Python sets it
    ended = {}
    shown = start(ended)
    ended["0"] = complete(0.5)
    clock[0] = 1
    shown.update()
    assert capsys.readouterr().out.startswith("trial 0 complete  (best 0.5 of trial 0; 1/4, ")
    shown.close()
