"""keras-tuner's oracles, made to lose no trial.

An oracle draws the hyper-parameters of trials and learns from their outcomes. Its workers are those
that ask it for trials; here these are trial runners, on any machine. When a worker of keras-tuner
dies, its trial stays RUNNING for ever, and the other workers exit before they could take it over
(https://github.com/keras-team/keras-tuner/issues/915). Here the trial of a silent worker goes to
the next one that asks, workers exit only after the last trial has ended, and one file holds the
whole state. The outcome of a trial is read from a file of its own, so that a trial ends once, even
if two workers report its end.
"""

import math
import pathlib
import statistics
import threading
import time

import keras_tuner

from keras_elu.tuning import outcomes, tuner_internals
from keras_elu.tuning.tuner_internals import COMPLETED, IDLE, RUNNING, STOP

HEARTBEAT = 1.0  # seconds between two messages to the oracle

# Seconds of silence after which a worker counts as dead; workers report every second. If it was
# only slow, no harm is done: the folder of its run stays locked until its process has ended.
LEASE = 20
TRIALS = 20
# Metric in a report: the mean objective over the runs of a trial that have ended.
MEAN = "mean"
_COMPARED = 5  # complete trials that a median needs
_GRACE = 1 / 3  # of its epochs, in which no trial is pruned


class _Oracle(tuner_internals.RestartableOracle):
    """What all oracles here have in common.

    Attributes:
        ended: Outcomes of the trials that have ended, by the names of the trials.
        over: Whether every trial has ended and no more will be drawn.
    """

    def open(self, folder: pathlib.Path, epochs: int) -> None:
        """Sets the folder of the state, and continues from the state in it."""
        self._trials, self._epochs = folder / "trials", epochs
        self._mutex = threading.RLock()
        self._reported = {}  # by trial, when its worker reported on it
        self._seen = {}  # by worker, when it asked or reported
        self._curves = {}  # by trial, the objective by epoch
        self.over = False
        self.restore(folder / "oracle.json")
        self.ended = {n: o for n, o in outcomes.read_all(self._trials).items() if n in self.trials}

    def create_trial(self, tuner_id):
        """Returns a trial to run, or one whose status says to ask again, IDLE, or to exit, STOP."""
        with self._mutex:
            now = time.monotonic()
            for trial in list(self.ongoing_trials.values()):
                if now - self._reported.setdefault(trial.trial_id, now) > LEASE:
                    self.requeue(trial)
            self._score_failed()
            self._seen[tuner_id] = now
            trial = super().create_trial(tuner_id)
            # Fitting a Gaussian process takes time, in which no worker can report.
            taken = time.monotonic() - now
            self._reported = {name: when + taken for name, when in self._reported.items()}
            if trial.status == RUNNING:
                self._reported[trial.trial_id] = now + taken
            elif trial.status == STOP:
                self.over = all(t.status == COMPLETED for t in self.trials.values())
                if self.over:
                    del self._seen[tuner_id]
                else:  # a trial that is running may yet need another worker
                    trial.status = IDLE
            return trial

    def may_close(self) -> bool:
        """Whether the search is over and every worker that is alive has been notified."""
        with self._mutex:
            now = time.monotonic()
            waiting = any(now - seen < LEASE for seen in self._seen.values())
            if (
                not self.over
                and not waiting
                and all(trial.status == COMPLETED for trial in self.trials.values())
            ):  # no worker may be left to ask for another trial
                self.create_trial("chief")
                self.release("chief")
            return self.over and not waiting

    def update_trial(self, trial_id, metrics, step=0):
        """Records a trial's heartbeat and metrics.

        Args:
            trial_id: Name of the trial.
            metrics: The objective after `step` epochs of the trial's first run, or `MEAN` over its
                first `step` runs, or nothing.
            step: Number of epochs or runs.

        Returns:
            A trial whose status is STOP if it should be pruned.
        """
        with self._mutex:
            trial = self.trials[trial_id]
            self._record_heartbeat(trial_id)
            metrics, behind = dict(metrics), False
            if MEAN in metrics:
                behind = self._mean_is_behind(float(metrics[MEAN]), int(step))
            elif self.objective.name in metrics:
                value = float(metrics[self.objective.name])
                self._curves.setdefault(trial_id, {})[int(step)] = value
                behind = self._curve_is_behind(trial_id)
            status = STOP if behind else trial.status
            return tuner_internals.Trial(trial.hyperparameters, trial_id, status)

    def end_trial(self, trial):
        """Reads the outcome of a trial from its file."""
        with self._mutex:
            self._record_heartbeat(trial.trial_id)
            outcome = outcomes.read(self._trials, trial.trial_id)
            own = self.trials[trial.trial_id]
            if own.status == COMPLETED or outcome is None:
                return  # a worker that had counted as dead has reported the end
            self.ended[trial.trial_id] = outcome
            own.message = outcome.reason
            self.complete(own)

    def score_trial(self, trial):
        """Scores a trial by its objective after the last epoch, whose weights are saved.

        A pruned trial scores no better than the median of the complete ones, to which it lost: its
        few runs may have had good seeds.
        """
        outcome = self.ended[trial.trial_id]
        trial.best_step = outcome.epochs
        trial.score = self._worst() if outcome.value is None else outcome.value
        if outcome.status == outcomes.PRUNED and (complete := self._complete):
            worse = max if self.objective.direction == "min" else min
            trial.score = worse(trial.score, statistics.median(o.value for o in complete))

    def _record_heartbeat(self, trial_id):
        self._reported[trial_id] = now = time.monotonic()
        for worker, trial in self.ongoing_trials.items():
            if trial.trial_id == trial_id:
                self._seen[worker] = now

    def release(self, tuner_id: str) -> None:
        """Gives the trial of a worker, if it has one, to the next worker that asks."""
        with self._mutex:
            trial = self.ongoing_trials.get(tuner_id)
            if trial is not None:
                self.requeue(trial)

    def _score_failed(self):
        """Scores failed trials as the worst of the others.

        keras-tuner leaves them out: a Gaussian process would then draw again where training
        diverges, and a round of Hyperband would wait for them.
        """
        worst = self._worst()
        for name, outcome in self.ended.items():
            if outcome.value is None:
                self.trials[name].score = worst

    @property
    def _complete(self) -> list[outcomes.Outcome]:
        return [o for o in self.ended.values() if o.status == outcomes.COMPLETE]

    def _worst(self) -> float:
        values = [o.value for o in self.ended.values() if o.value is not None]
        return (max if self.objective.direction == "min" else min)(values, default=0.0)

    def _curve_is_behind(self, trial_id) -> bool:
        """The median stopping rule.

        A trial is behind if its best objective so far is worse than the median, over the complete
        trials, of their mean objective up to the same epoch.

        Reference:
            [Golovin et al., 2017](https://doi.org/10.1145/3097983.3098043), section 3.2.2.
        """
        own = self._curves[trial_id]
        if max(own) < self._epochs * _GRACE or isinstance(self, Hyperband):
            return False
        sign = 1 if self.objective.direction == "min" else -1
        averages = []
        for name, outcome in self.ended.items():
            if outcome.status == outcomes.COMPLETE:
                if name not in self._curves:  # it ended before the search was resumed
                    values = outcomes.curve(self._trials, name, self.objective.name)
                    self._curves[name] = dict(enumerate(values, 1))
                others = [v for epoch, v in self._curves[name].items() if epoch <= max(own)]
                averages.append(sign * statistics.fmean(others))
        best = min((sign * v for v in own.values() if not math.isnan(v)), default=math.inf)
        return len(averages) >= _COMPARED and best > statistics.median(averages)

    def _mean_is_behind(self, mean: float, runs: int) -> bool:
        """Whether the mean over some runs is worse than the median of the complete trials' means.

        Runs with the same seed share the order of the images and the initial weights, so that they
        differ less than runs with different seeds.
        """
        means = [statistics.fmean(outcome.values[:runs]) for outcome in self._complete]
        if len(means) < _COMPARED or isinstance(self, Hyperband):
            return False
        sign = 1 if self.objective.direction == "min" else -1
        return sign * mean > sign * statistics.median(means)


class _StartingAtDefaults(_Oracle):
    """Tries the default configuration first, around which the space lies."""

    def populate_space(self, trial_id):
        if not self.trials:
            values = {
                hp.name: hp.default
                for hp in self.hyperparameters.space
                if self.hyperparameters.is_active(hp)
            }
            return {"status": RUNNING, "values": values}
        return super().populate_space(trial_id)


class Random(_StartingAtDefaults, keras_tuner.oracles.RandomSearchOracle):
    """Draws at random."""


class Bayesian(_StartingAtDefaults, keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws where a Gaussian process promises the best outcome."""


class Hyperband(_Oracle, keras_tuner.oracles.HyperbandOracle):
    """Trains many trials for a few epochs, and the best of them for more.

    Each round trains its trials from the start: a schedule is as long as the training.
    """


def make(
    tuner: str,
    space: keras_tuner.HyperParameters,
    *,
    objective: str,
    direction: str,
    max_trials: int | None,
    epochs: int,
    seed: int,
    folder: pathlib.Path,
) -> _Oracle:
    """Returns an oracle that continues from the state in the folder.

    Args:
        tuner: "random", "bayesian" or "hyperband".
        space: The hyper-parameters, at their defaults.
        objective: Metric of the history, such as "val_loss".
        direction: "min" or "max".
        max_trials: Number of trials. None: one sweep of Hyperband, otherwise `TRIALS`.
        epochs: Epochs of a complete training.
        seed: Seed of all random draws.
        folder: Folder of the state.

    Raises:
        ValueError: If Hyperband needs more trials.
    """
    arguments = {
        "objective": keras_tuner.Objective(objective, direction),
        "hyperparameters": space,
        "seed": seed + 1,  # keras-tuner takes 0 for no seed
    }
    if tuner == "hyperband":
        sweep = hyperband_trials(epochs)
        if max_trials is not None and max_trials < sweep:
            raise ValueError(
                f"--tuner hyperband needs {sweep} trials for {epochs} epochs: give --max_trials "
                f"{sweep} or more, or fewer --epochs."
            )
        sweeps = (max_trials or sweep) // sweep
        made = Hyperband(max_epochs=epochs, hyperband_iterations=sweeps, **arguments)
    elif tuner == "bayesian":
        first = max(3, (max_trials or TRIALS) // 3)
        made = Bayesian(max_trials=max_trials or TRIALS, num_initial_points=first, **arguments)
    else:
        made = Random(max_trials=max_trials or TRIALS, **arguments)
    made.open(folder, epochs)
    return made


def hyperband_trials(epochs: int, factor: int = 3) -> int:
    """Returns the number of trials in one sweep of Hyperband, over all its rounds.

    Example:

    >>> hyperband_trials(9)
    23
    """
    brackets = 1 + math.floor(math.log(epochs) / math.log(factor) + 1e-9)
    last = math.ceil(1 + math.log(epochs, factor))
    return sum(
        math.ceil(last / (bracket + 1) * factor ** (bracket - round_))
        for bracket in range(brackets)
        for round_ in range(bracket + 1)
    )
