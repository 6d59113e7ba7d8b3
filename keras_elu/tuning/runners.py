"""Trial runners: threads that ask an oracle for trials and run each one as a process of its own.

The memory of a process is free again when it ends, so that a search does not grow with its trials
(https://github.com/keras-team/keras-tuner/issues/395).
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import keras_tuner

from keras_elu import commands, files
from keras_elu.tuning import machines, oracles, outcomes, shares, tuner_internals

_TRIAL = pathlib.Path(__file__).with_name("trial.py")
_ATTEMPTS = 5  # at a run whose process dies or hangs
_TO_SAVE = 60  # seconds for a trial to save before it is killed
# Seconds without a change to its log or to a file of its run, after which a process counts as hung.
# A training writes for TensorBoard every ten seconds; a long validation writes nothing.
SILENCE = 1800


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """How the process of a run ended.

    Args:
        code: Its exit code; negative if a signal killed it.
        pruned: Whether it was stopped because other trials were better.
        hung: Whether it was killed because it wrote nothing for too long.
    """

    code: int
    pruned: bool
    hung: bool


class TrialRunner(threading.Thread):
    """Runs one trial after the other until there are no more.

    Args:
        oracle: Draws the trials.
        name: Name of the runner, unique in the search.
        share: The cores and accelerators that its trials may use.
        recipe: Module name of the recipe.
        flags: Returns the flags of a run for hyper-parameters and the number of the run.
        runs: Runs of a trial, with different seeds, whose mean objective is the trial's.
        objective: Metric of the history.
        trials: Folder of the trials.
        stop: Returns whether to stop; the running trial then saves, to be resumed later.

    Attributes:
        error: The exception that ended the runner early.
    """

    def __init__(
        self,
        oracle,
        name: str,
        share: shares.Share,
        *,
        recipe: str,
        flags: Callable[[keras_tuner.HyperParameters, int], list[str]],
        runs: int,
        objective: str,
        trials: pathlib.Path,
        stop: Callable[[], bool],
    ):
        super().__init__(name=name, daemon=True)
        self._oracle, self._share, self._recipe, self._flags = oracle, share, recipe, flags
        self._runs, self._objective = runs, objective
        self._trials, self._stopping = trials, stop
        self.error: Exception | None = None

    def run(self):
        if self._share.cores:
            os.sched_setaffinity(0, self._share.cores)  # of this thread and its processes
        try:
            while not self._stopping():
                trial = self._oracle.create_trial(self.name)
                if trial.status == tuner_internals.STOP:
                    return
                if trial.status == tuner_internals.IDLE:
                    time.sleep(oracles.HEARTBEAT)
                    continue
                if outcomes.read(self._trials, trial.trial_id) is None:
                    outcome = self._outcome(trial)
                    if outcome is None:
                        return
                    outcomes.write(self._trials, trial.trial_id, outcome)
                self._oracle.end_trial(trial)
        except machines.Interrupted:
            return
        except Exception as error:
            self.error = error

    def _outcome(self, trial) -> outcomes.Outcome | None:
        """Runs or resumes a trial; returns None if it will be resumed later."""
        values = []
        for number in range(self._runs):
            outcome = self._outcome_of_run(trial, number)
            if outcome is None or outcome.status != outcomes.COMPLETE:
                return outcome
            values.append(outcome.value)
            outcome = dataclasses.replace(outcome, value=statistics.fmean(values), values=values)
            if len(values) < self._runs and self._is_behind(trial, outcome):
                reason = f"its mean of {len(values)} was worse than the median of the others"
                return dataclasses.replace(outcome, status=outcomes.PRUNED, reason=reason)
        return outcome

    def _is_behind(self, trial, outcome: outcomes.Outcome) -> bool:
        """Whether a trial is not worth another run."""
        mean = {oracles.MEAN: outcome.value}
        answer = self._oracle.update_trial(trial.trial_id, mean, step=len(outcome.values))
        return answer.status == tuner_internals.STOP

    def _outcome_of_run(self, trial, number: int) -> outcomes.Outcome | None:
        run, deaths = outcomes.run_name(trial.trial_id, number), 0
        while not self._stopping():
            if not self._is_free(trial, run):
                if (outcome := outcomes.read(self._trials, trial.trial_id)) is not None:
                    return outcome
                continue
            attempt = self._attempt(trial, number)
            curve = outcomes.curve(self._trials, run, self._objective)
            if attempt.code == 0:
                return _ended(outcomes.COMPLETE, curve, self._objective)
            if attempt.pruned:
                reason = "it was worse than the median of the others"
                return _ended(outcomes.PRUNED, curve, self._objective, reason)
            if attempt.code in (commands.RESUMABLE, -signal.SIGTERM) or self._stopping():
                continue  # also if it could not be saved, on a full disk
            if attempt.code == 2:
                if self._is_free(trial, run):
                    raise machines.CannotRun(self._last_words(trial))
                continue
            if attempt.code > 0:
                return _failed(self._last_words(trial), curve)
            deaths += 1
            if deaths == _ATTEMPTS:
                how = f"was killed by {signal.Signals(-attempt.code).name}"
                if attempt.hung:
                    how = f"wrote nothing for {SILENCE / 60:g} minutes"
                return _failed(f"its process {how}, and died {deaths} times", curve)
        return None

    def _attempt(self, trial, number: int) -> _Attempt:
        """Runs the process of a run until it ends."""
        run = outcomes.run_name(trial.trial_id, number)
        flags = self._flags(trial.hyperparameters, number)
        with self._log(trial).open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, str(_TRIAL)),
                    *(self._recipe, trial.trial_id, *flags, f"--run_dir={self._trials / run}"),
                ],
                env={"PYTHONUNBUFFERED": "1"} | os.environ | self._share.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the search
            )
        reported, pruned, hung, deadline = 0, False, False, None
        written, since = self._written(trial, run), time.monotonic()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return _Attempt(process.wait(oracles.HEARTBEAT), pruned, hung)
                if number == 0:  # running trials are compared by their first runs
                    reported, pruned = self._report(trial, reported, pruned)
                else:
                    self._oracle.update_trial(trial.trial_id, {}, step=0)
                if written != (written := self._written(trial, run)):
                    since = time.monotonic()
                if deadline is None and (pruned or self._stopping()):
                    process.terminate()
                    deadline = time.monotonic() + _TO_SAVE
                elif deadline is not None and time.monotonic() > deadline:
                    process.kill()
                elif time.monotonic() - since > SILENCE:
                    hung = True
                    process.kill()
        finally:
            process.stdin.close()  # a process that is still running saves and ends
            try:
                process.wait(_TO_SAVE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _report(self, trial, reported: int, pruned: bool) -> tuple[int, bool]:
        """Reports new epochs to the oracle, or at least that the trial is running."""
        curve = outcomes.curve(self._trials, trial.trial_id, self._objective)
        news = [
            (epoch, {self._objective: curve[epoch - 1]})
            for epoch in range(reported + 1, len(curve) + 1)
        ]
        for epoch, metrics in news or [(0, {})]:
            answer = self._oracle.update_trial(trial.trial_id, metrics, step=epoch)
            pruned = pruned or answer.status == tuner_internals.STOP
        return len(curve), pruned

    def _written(self, trial, run: str) -> list[tuple[str, int, int]]:
        """Returns sizes and times of the files that a run writes."""
        found = []
        for path in [self._log(trial), *(self._trials / run).rglob("*")]:
            with contextlib.suppress(FileNotFoundError):  # it was renamed
                status = path.stat()
                found.append((str(path), status.st_size, status.st_mtime_ns))
        return found

    def _is_free(self, trial, run: str) -> bool:
        """Whether no process has the folder of the run; that of a slow runner may still have it."""
        if not files.is_locked(self._trials / run / "lock"):
            return True
        self._oracle.update_trial(trial.trial_id, {}, step=0)
        time.sleep(oracles.HEARTBEAT)
        return False

    def _log(self, trial) -> pathlib.Path:
        return self._trials / f"{trial.trial_id}.log"

    def _last_words(self, trial) -> str:
        lines = self._log(trial).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (said or [line for line in lines if line.strip()] or ["it printed nothing"])[-1]


def _ended(status, curve, objective, reason=None) -> outcomes.Outcome:
    value = curve[-1]
    if value != value:
        return _failed(f"its {objective} is not finite", curve)
    return outcomes.Outcome(
        status=status, value=value, epochs=len(curve), values=[value], reason=reason
    )


def _failed(reason, curve) -> outcomes.Outcome:
    return outcomes.Outcome(status=outcomes.FAILED, value=None, epochs=len(curve), reason=reason)
