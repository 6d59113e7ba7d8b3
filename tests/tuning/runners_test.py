"""Trial runners, whose trials are small scripts with the behaviour of a trainer."""

import itertools
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from keras_tuner import HyperParameters
from keras_tuner.engine.trial import Trial

from keras_elu.tuning import machines, oracles, outcomes, runners, shares

# A trainer in a few lines. Its flags say, for each attempt at a run, how it ends.
TRIAL = """
import pathlib, os, signal, sys, time
name, *flags = sys.argv[2:]
run = pathlib.Path(flags.pop().removeprefix("--run_dir="))
run.mkdir(exist_ok=True)
attempt = len(list(run.glob("attempt-*")))
(run / f"attempt-{attempt}").touch()
(run / "hanging").unlink(missing_ok=True)
how = flags[0].split("|")[attempt]
kind, _, rest = how.partition(":")
print("attempt", attempt, flush=True)
if kind == "values":
    rows = "".join(f"{epoch},{value}\\n" for epoch, value in enumerate(rest.split(",")))
    (run / "history.csv").write_text("epoch,val_loss\\n" + rows)
elif kind == "exit":
    code, _, message = rest.partition(":")
    print(message)
    sys.exit(int(code))
elif kind == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif kind == "hang":
    (run / "hanging").touch()
    time.sleep(1000)
elif kind == "save":  # at the end of stdin, as trial.py does
    sys.stdin.read()
    (run / "saved").touch()
elif kind == "full":  # the disk, when it is stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: The run could not be saved."))
    print("running")
    time.sleep(1000)
elif kind == "slow":
    for i in range(25):
        time.sleep(0.02)
        with (run / "events").open("a") as file:
            file.write(".")
    (run / "history.csv").write_text("epoch,val_loss\\n0,0.5\\n")
"""


class Oracle:
    """Gives one trial, and keeps the reports; prunes when told to."""

    def __init__(self, prune=None):
        self.reports, self.ended, self._prune = [], [], prune

    def create_trial(self, name):
        status = "STOPPED" if self.ended else "RUNNING"
        return Trial(HyperParameters(), "07", status)

    def update_trial(self, trial_id, metrics, step=0):
        if metrics:
            self.reports.append((metrics, step))
        status = "STOPPED" if (metrics, step) == self._prune else "RUNNING"
        return Trial(HyperParameters(), trial_id, status)

    def end_trial(self, trial):
        self.ended.append(trial.trial_id)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a trial whose runs behave as described, and returns its outcome and its runner."""
    script = tmp_path / "trial.py"
    script.write_text(TRIAL)
    monkeypatch.setattr(runners, "_TRIAL", script)
    monkeypatch.setattr(oracles, "HEARTBEAT", 0.05)
    hours = itertools.count()

    def monotonic():
        """A clock that moves only while a process hangs, and with every word of a slow one."""
        events = tmp_path / "07" / "events"
        if (tmp_path / "07" / "hanging").exists():
            return 3600.0 * next(hours)
        return 100.0 * events.stat().st_size if events.exists() else 0.0

    monkeypatch.setattr(
        runners, "time", types.SimpleNamespace(monotonic=monotonic, sleep=time.sleep)
    )

    def run(*behaviours, oracle=None, stop=lambda: False):
        runner = runners.TrialRunner(
            oracle or Oracle(),
            "runner-0",
            shares.Share(None, {}),
            recipe="any",
            flags=lambda hp, number: [behaviours[number]],
            runs=len(behaviours),
            objective="val_loss",
            trials=tmp_path,
            stop=stop,
        )
        runner.start()
        runner.join()
        return outcomes.read(tmp_path, "07"), runner

    return run


CASES = {
    "complete": (["values:0.5,0.25"], "complete", [0.25], None),
    "several runs": (["values:0.5,0.25", "values:0.5,0.75"], "complete", [0.25, 0.75], None),
    "a process that stopped and saved": (["exit:75|values:0.5"], "complete", [0.5], None),
    "a killed process": (["kill|kill|values:0.5"], "complete", [0.5], None),
    "a hanging process": (["hang|values:0.5"], "complete", [0.5], None),
    "a slow process that writes": (["slow"], "complete", [0.5], None),
    "a process that is always killed": (
        ["|".join(["kill"] * 9)],
        "failed",
        [],
        "its process was killed by SIGKILL, and died 5 times",
    ),
    "a process that always hangs": (
        ["|".join(["hang"] * 9)],
        "failed",
        [],
        "its process wrote nothing for 30 minutes, and died 5 times",
    ),
    "an error": (["exit:1:error: The disk is full."], "failed", [], "The disk is full."),
    "an exception": (["exit:1:ValueError: 3"], "failed", [], "ValueError: 3"),
    "a loss that is not finite": (["values:1,nan"], "failed", [], "its val_loss is not finite"),
}


@pytest.mark.parametrize(("behaviours", "status", "values", "reason"), CASES.values(), ids=CASES)
def test_the_outcome_of_a_trial_is_that_of_its_processes(run, behaviours, status, values, reason):
    outcome, runner = run(*behaviours)
    assert runner.error is None
    assert (outcome.status, list(outcome.values), outcome.reason) == (status, values, reason)
    if values:
        assert outcome.value == sum(values) / len(values)


def test_epochs_of_the_first_run_and_means_of_runs_are_reported_once(run):
    oracle = Oracle()
    run("values:0.5,0.25", "values:0.5,0.75", "values:1,1", oracle=oracle)
    means = [report for report in oracle.reports if oracles.MEAN in report[0]]
    assert means == [({oracles.MEAN: 0.25}, 1), ({oracles.MEAN: 0.5}, 2)]
    assert oracle.ended == ["07"]


def test_a_trial_that_is_behind_after_a_run_is_pruned_without_another(run, tmp_path):
    outcome, _ = run("values:0.5", "values:1", oracle=Oracle(prune=({oracles.MEAN: 0.5}, 1)))
    assert (outcome.status, list(outcome.values)) == ("pruned", [0.5])
    assert outcome.reason == "its mean of 1 was worse than the median of the others"
    assert not (tmp_path / "07-2").exists()


def test_a_wrong_command_line_ends_the_runner_and_not_the_trial(run, tmp_path):
    outcome, runner = run("exit:2:error: --alpha is wrong.")
    assert outcome is None
    assert isinstance(runner.error, machines.CannotRun)
    assert str(runner.error) == "--alpha is wrong."


def test_a_runner_that_is_to_stop_lets_its_trial_save_and_leaves_no_outcome(run, tmp_path):
    log = tmp_path / "07.log"
    outcome, runner = run("hang", stop=lambda: log.exists() and log.stat().st_size > 0)
    assert (outcome, runner.error) == (None, None)
    assert log.read_text() == "attempt 0\n"


def test_a_trial_that_cannot_save_when_the_runner_stops_leaves_no_outcome(run, tmp_path):
    log = tmp_path / "07.log"
    outcome, runner = run("full", stop=lambda: log.exists() and "running" in log.read_text())
    assert (outcome, runner.error) == (None, None)
    assert "could not be saved" in log.read_text()


def test_a_runner_whose_oracle_fails_lets_its_trial_save(run, tmp_path):
    class Absent(Oracle):
        def update_trial(self, trial_id, metrics, step=0):
            if not (tmp_path / "07.log").read_text():
                return super().update_trial(trial_id, metrics, step)
            raise machines.Interrupted

    outcome, runner = run("save", oracle=Absent())
    assert (outcome, runner.error) == (None, None)
    assert (tmp_path / "07" / "saved").exists()


TRAINER = [sys.executable, runners._TRIAL, "keras_elu.recipes.mnist", "07", "--no_such_flag"]


def test_a_trial_of_a_dead_search_ends_even_before_it_has_imported_tensorflow():
    process = subprocess.Popen(TRAINER, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(timeout=60) == -signal.SIGTERM
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_trial_imports_the_package_of_its_search(tmp_path):
    reading, writing = os.pipe()  # the search, which is alive
    done = subprocess.run(TRAINER, stdin=reading, cwd=tmp_path, capture_output=True, text=True)
    os.close(reading)
    os.close(writing)
    assert done.returncode == 2, done.stderr
    assert "no_such_flag" in done.stderr.splitlines()[-1]
