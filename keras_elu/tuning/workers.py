"""Workers: threads that ask an oracle for trials, and run each as a process of its own.

What a process holds is given back when it ends, so that the memory of a search does not grow with
its trials (https://github.com/keras-team/keras-tuner/issues/395).
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

from keras_elu import files
from keras_elu.training import signals
from keras_elu.tuning import chief, oracles, outcomes, shares

_ATTEMPTS = 5  # of a trial whose process dies
_TO_STOP = 60  # seconds that a trial has to save


class Worker(threading.Thread):
    """Runs trials until there are no more.

    Args:
        oracle: Whom to ask.
        name: Its name, other than those of all the other workers.
        share: What of the machine it may use.
        recipe: Module name of the recipe.
        flags: Returns the flags of a run for the hyper-parameters and the number of the execution.
        executions: Runs of a trial, with seeds of their own, whose mean objective is the trial's.
        objective: Metric of the history.
        trials: Folder of the trials.
        stop: Asked whether to stop; the trial then saves, and stays.

    Attributes:
        error: What ended the worker before its time.
    """

    def __init__(
        self,
        oracle,
        name: str,
        share: shares.Share,
        *,
        recipe: str,
        flags: Callable[[keras_tuner.HyperParameters, int], list[str]],
        executions: int,
        objective: str,
        trials: pathlib.Path,
        stop: Callable[[], bool],
    ):
        super().__init__(name=name, daemon=True)
        self._oracle, self._share, self._recipe, self._flags = oracle, share, recipe, flags
        self._executions, self._objective = executions, objective
        self._trials, self._stopping = trials, stop
        self.error: Exception | None = None

    def run(self):
        if self._share.cores:
            os.sched_setaffinity(0, self._share.cores)  # of this thread, and what it starts
        try:
            while not self._stopping():
                trial = self._oracle.create_trial(self.name)
                if trial.status == oracles.STOPPED:
                    return
                if trial.status == oracles.IDLE:
                    time.sleep(oracles.HEARTBEAT)
                    continue
                if outcomes.read(self._trials, trial.trial_id) is None:
                    outcome = self._outcome(trial)
                    if outcome is None:
                        return
                    outcomes.write(self._trials, trial.trial_id, outcome)
                self._oracle.end_trial(trial)
        except Exception as error:
            self.error = error

    def _outcome(self, trial) -> outcomes.Outcome | None:
        """Runs a trial, from where it is; returns None if it is to be gone on with later."""
        values = []
        for execution in range(self._executions):
            outcome = self._outcome_of_run(trial, execution)
            if outcome is None or outcome.status != outcomes.COMPLETE:
                return outcome
            values.append(outcome.value)
            outcome = dataclasses.replace(outcome, value=statistics.fmean(values), values=values)
            if len(values) < self._executions and self._hopeless(trial, outcome):
                reason = f"its mean of {len(values)} was worse than the median of the others"
                return dataclasses.replace(outcome, status=outcomes.STOPPED, reason=reason)
        return outcome

    def _hopeless(self, trial, outcome: outcomes.Outcome) -> bool:
        """Whether a trial is not worth another training, after those that it has had."""
        mean = {oracles.MEAN: outcome.value}
        answer = self._oracle.update_trial(trial.trial_id, mean, step=len(outcome.values))
        return answer.status == oracles.STOPPED

    def _outcome_of_run(self, trial, execution: int) -> outcomes.Outcome | None:
        run, deaths = outcomes.run_name(trial.trial_id, execution), 0
        while not self._stopping():
            if not self._free(trial, run):
                if (outcome := outcomes.read(self._trials, trial.trial_id)) is not None:
                    return outcome
                continue
            code, hopeless = self._attempt(trial, execution)
            curve = outcomes.curve(self._trials, run, self._objective)
            if code == 0:
                return _ended(outcomes.COMPLETE, curve, self._objective)
            if hopeless:
                reason = "it was worse than the median of the others"
                return _ended(outcomes.STOPPED, curve, self._objective, reason)
            if code in (signals.STOPPED, -signal.SIGTERM):
                continue
            if code == 2:
                if self._free(trial, run):
                    raise chief.CannotRun(self._last_words(trial))
                continue
            if code > 0:
                return _failed(self._last_words(trial), curve)
            deaths += 1
            if deaths == _ATTEMPTS:
                name = signal.Signals(-code).name
                return _failed(f"its process was killed by {name} {deaths} times", curve)
        return None

    def _attempt(self, trial, execution: int) -> tuple[int, bool]:
        """Runs the process; returns its exit code, and whether it was stopped as hopeless."""
        run = outcomes.run_name(trial.trial_id, execution)
        flags = self._flags(trial.hyperparameters, execution)
        with self._log(trial).open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "keras_elu.tuning.trial"),
                    *(self._recipe, trial.trial_id, *flags, f"--run_dir={self._trials / run}"),
                ],
                env={"PYTHONUNBUFFERED": "1"} | os.environ | self._share.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the search
            )
        told, hopeless, deadline = 0, False, None
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(oracles.HEARTBEAT), hopeless
                if execution == 0:  # by which trials are compared while they run
                    told, hopeless = self._report(trial, told, hopeless)
                else:
                    self._oracle.update_trial(trial.trial_id, {}, step=0)
                if deadline is None and (hopeless or self._stopping()):
                    process.terminate()
                    deadline = time.monotonic() + _TO_STOP
                elif deadline is not None and time.monotonic() > deadline:
                    process.kill()
        finally:
            process.stdin.close()
            if process.poll() is None:
                process.kill()
                process.wait()

    def _report(self, trial, told: int, hopeless: bool) -> tuple[int, bool]:
        """Tells the oracle of the epochs that it does not know, or at least that the trial runs."""
        curve = outcomes.curve(self._trials, trial.trial_id, self._objective)
        news = [
            (epoch, {self._objective: curve[epoch - 1]})
            for epoch in range(told + 1, len(curve) + 1)
        ]
        for epoch, metrics in news or [(0, {})]:
            answer = self._oracle.update_trial(trial.trial_id, metrics, step=epoch)
            hopeless = hopeless or answer.status == oracles.STOPPED
        return len(curve), hopeless

    def _free(self, trial, run: str) -> bool:
        """Whether nobody has the folder of the run; a worker taken for dead may have it still."""
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
        return (said or [line for line in lines if line.strip()] or ["it said nothing"])[-1]


def _ended(status, curve, objective, reason=None) -> outcomes.Outcome:
    value = curve[-1]
    if value != value:
        return _failed(f"its {objective} is not finite", curve)
    return outcomes.Outcome(
        status=status, value=value, epochs=len(curve), values=[value], reason=reason
    )


def _failed(reason, curve) -> outcomes.Outcome:
    return outcomes.Outcome(status=outcomes.FAILED, value=None, epochs=len(curve), reason=reason)
