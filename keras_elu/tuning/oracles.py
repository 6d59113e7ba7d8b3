"""keras-tuner's oracles, made to lose no trial.

An oracle draws the hyper-parameters of trials and learns from what came of them. Those of
keras-tuner leave the trial of a worker that died RUNNING for ever, send the other workers home
meanwhile (https://github.com/keras-team/keras-tuner/issues/915), and are saved in many files, of
which a kill can leave one cut short. Here a trial that nobody works on is given to the next worker
who asks, nobody is sent home before all trials have ended, and one file, written aside, holds all.
What came of a trial is read from its own file, so that a trial has one end, whoever reports it.
"""

import contextlib
import io
import json
import math
import pathlib
import statistics
import sys
import threading
import time

import keras_tuner
from keras_tuner.engine import trial as trial_module

from keras_elu import files
from keras_elu.tuning import outcomes

HEARTBEAT = 1.0  # seconds from one word to the oracle to the next

# Seconds after which a worker that says nothing is taken for dead; workers say something each
# second. One that was only slow is not harmed: its run folder is locked until its trial has ended.
LEASE = 20
TRIALS = 20
RUNNING, IDLE, STOPPED, COMPLETED, INVALID = "RUNNING", "IDLE", "STOPPED", "COMPLETED", "INVALID"
# Metric: the mean objective of a trial's trainings that have ended, whose number is the step.
MEAN = "mean"
_COMPARED = 5  # complete trials that a median is of
_UNTOUCHED = 1 / 3  # of its epochs a trial is let train, whatever the others did
_FOR_EVER = 2**31 - 1  # attempts and failures in a row, which are no reason to give up


class _Kept:
    """What all oracles here have in common.

    Attributes:
        over: Whether every trial has ended, and no more will be drawn.
    """

    def keep_in(self, folder: pathlib.Path, epochs: int) -> None:
        """Says where the state lies, and goes on from what lies there."""
        self._file, self._trials, self._epochs = folder / "oracle.json", folder / "trials", epochs
        self._mutex = threading.RLock()
        self._heard, self._curves, self._asked = {}, {}, {}
        self.tuner_ids.add(self)  # keras-tuner's server stops once nobody is left here
        self._failing = self.over = False
        self.verbose = 0
        self.max_retries_per_trial = self.max_consecutive_failed_trials = _FOR_EVER
        if self._file.exists():
            state = json.loads(self._file.read_text(encoding="utf-8"))
            trials = [trial_module.Trial.from_state(state) for state in state["trials"]]
            self.trials = {trial.trial_id: trial for trial in trials}
            self.set_state(state["oracle"])
            # keras-tuner saves an end before it takes the trial from its worker. Those that run
            # stay with their workers, who may be alive, and otherwise are soon taken for dead.
            self.ongoing_trials = {
                worker: trial
                for worker, trial in self.ongoing_trials.items()
                if trial.status == RUNNING
            }
        self.ended = {n: o for n, o in outcomes.read_all(self._trials).items() if n in self.trials}

    def save(self):
        """Stores all; what the disk refuses is stored with the next change."""
        state = {
            "oracle": self.get_state(),
            "trials": [trial.get_state() for trial in self.trials.values()],
        }
        try:
            with files.aside(self._file) as path:
                path.write_text(json.dumps(state), encoding="utf-8")
            self._failing = False
        except OSError as error:
            if not self._failing:
                print(
                    f"{self._file} could not be written ({error.strerror}): the search goes on, "
                    "and it will be later",
                    file=sys.stderr,
                    flush=True,
                )
            self._failing = True

    def reload(self):
        """Does nothing, as `_save_trial`: the one file holds all."""

    def _save_trial(self, trial):
        pass

    def create_trial(self, tuner_id):
        """Returns a trial to run, or one that says to ask again, or to go home."""
        with self._mutex:
            now = time.monotonic()
            for trial in list(self.ongoing_trials.values()):
                if now - self._heard.setdefault(trial.trial_id, now) > LEASE:
                    self._lose(trial)
            self._rate_failed()
            self._asked[tuner_id] = now
            trial = super().create_trial(tuner_id)
            # A Gaussian process takes its time, in which nobody else is listened to.
            taken = time.monotonic() - now
            self._heard = {name: heard + taken for name, heard in self._heard.items()}
            if trial.status == RUNNING:
                self._heard[trial.trial_id] = now + taken
            elif trial.status == STOPPED:
                self.over = all(t.status == COMPLETED for t in self.trials.values())
                if self.over:
                    del self._asked[tuner_id]
                else:  # one that runs may yet need another worker
                    trial.status = IDLE
            return trial

    def finished(self) -> bool:
        """Whether the search is over, and every worker knows, but for those that are dead."""
        with self._mutex:
            now = time.monotonic()
            waiting = any(now - asked < LEASE for asked in self._asked.values())
            if (
                not self.over
                and not waiting
                and all(trial.status == COMPLETED for trial in self.trials.values())
            ):  # nobody may be left to ask whether there are more
                self.create_trial("nobody")
                self.lose("nobody")
            return self.over and not waiting

    def update_trial(self, trial_id, metrics, step=0):
        """Hears of a trial: that it runs and, if there are metrics, how it is.

        That is the objective after `step` epochs of its first training, or `MEAN` of `step`
        trainings.

        Returns:
            A trial whose status is "STOPPED" if it is not worth going on.
        """
        with self._mutex:
            trial = self.trials[trial_id]
            self._hear(trial_id)
            metrics, hopeless = dict(metrics), False
            if MEAN in metrics:
                hopeless = self._behind(float(metrics[MEAN]), int(step))
            elif self.objective.name in metrics:
                value = float(metrics[self.objective.name])
                self._curves.setdefault(trial_id, {})[int(step)] = value
                hopeless = self._hopeless(trial_id)
            status = STOPPED if hopeless else trial.status
            return trial_module.Trial(trial.hyperparameters, trial_id, status)

    def end_trial(self, trial):
        """Takes the end of a trial from its file."""
        with self._mutex:
            self._hear(trial.trial_id)
            outcome = outcomes.read(self._trials, trial.trial_id)
            held = self.trials[trial.trial_id]
            if held.status == COMPLETED or outcome is None:
                return  # the end was reported by a worker that had been taken for dead
            if trial.trial_id in self._retry_queue:
                self._retry_queue.remove(trial.trial_id)
            self.ended[trial.trial_id] = outcome
            held.status, held.message = COMPLETED, outcome.reason
            super().end_trial(held)

    def score_trial(self, trial):
        """Gives a trial what it has after its last epoch, at which its model is saved.

        One that was stopped has nothing better than the median of the complete ones, to which it
        lost: the seeds of its few trainings may have been the good ones.
        """
        outcome = self.ended[trial.trial_id]
        trial.best_step = outcome.epochs
        trial.score = self._worst() if outcome.value is None else outcome.value
        if outcome.status == outcomes.STOPPED and (complete := self._complete):
            worse = max if self.objective.direction == "min" else min
            trial.score = worse(trial.score, statistics.median(o.value for o in complete))

    def _hear(self, trial_id):
        """Notes that the worker of a trial is alive."""
        self._heard[trial_id] = now = time.monotonic()
        for worker, trial in self.ongoing_trials.items():
            if trial.trial_id == trial_id:
                self._asked[worker] = now

    def lose(self, tuner_id: str) -> None:
        """Is told that a worker is dead: its trial is for the next one who asks."""
        with self._mutex:
            trial = self.ongoing_trials.get(tuner_id)
            if trial is not None:
                self._lose(trial)

    def _lose(self, trial):
        trial.status = INVALID  # which is what keras-tuner tries again
        with contextlib.redirect_stdout(io.StringIO()):  # it counts the retries aloud
            super().end_trial(trial)

    def _rate_failed(self):
        """Rates trials that failed as the worst of the others.

        keras-tuner leaves them out: a Gaussian process then knows nothing of where training
        diverges, and asks there again; a round of Hyperband waits for them.
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

    def _hopeless(self, trial_id) -> bool:
        """Whether a trial never was as good as the median of the complete ones' averages.

        Reference:
            [Golovin et al., 2017](https://doi.org/10.1145/3097983.3098043), section 3.2.2.
        """
        own = self._curves[trial_id]
        if max(own) < self._epochs * _UNTOUCHED or isinstance(self, Hyperband):
            return False
        sign = 1 if self.objective.direction == "min" else -1
        averages = []
        for name, outcome in self.ended.items():
            if outcome.status == outcomes.COMPLETE:
                if name not in self._curves:  # of an earlier start
                    values = outcomes.curve(self._trials, name, self.objective.name)
                    self._curves[name] = dict(enumerate(values, 1))
                others = [v for epoch, v in self._curves[name].items() if epoch <= max(own)]
                averages.append(sign * statistics.fmean(others))
        best = min((sign * v for v in own.values() if not math.isnan(v)), default=math.inf)
        return len(averages) >= _COMPARED and best > statistics.median(averages)

    def _behind(self, mean: float, trainings: int) -> bool:
        """Whether a mean is worse than the median of what the complete ones' were, with its seeds.

        Trainings with one seed have the images' order and the initial weights in common, so that
        they differ by less than those with several.
        """
        means = [statistics.fmean(outcome.values[:trainings]) for outcome in self._complete]
        if len(means) < _COMPARED or isinstance(self, Hyperband):
            return False
        sign = 1 if self.objective.direction == "min" else -1
        return sign * mean > sign * statistics.median(means)


class _StartingAtDefaults(_Kept):
    """Tries the configuration first around which the space lies."""

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
    """Draws where a Gaussian process hopes for most."""


class Hyperband(_Kept, keras_tuner.oracles.HyperbandOracle):
    """Trains many trials for few epochs and few for all.

    Every round trains its trials from the start: their schedules are as long as their training.
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
) -> _Kept:
    """Returns an oracle that goes on from what it left in the folder.

    Args:
        tuner: "random", "bayesian" or "hyperband".
        space: The hyper-parameters, at their defaults.
        objective: Metric of the history, such as "val_loss".
        direction: "min" or "max".
        max_trials: Number of trials. None: of Hyperband as many as it has, otherwise `TRIALS`.
        epochs: Epochs of a complete training.
        seed: Seed of all that is drawn.
        folder: Where the state lies.

    Raises:
        ValueError: If Hyperband needs more trials.
    """
    arguments = {
        "objective": keras_tuner.Objective(objective, direction),
        "hyperparameters": space,
        "seed": seed + 1,  # keras-tuner takes 0 for none
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
    made.keep_in(folder, epochs)
    return made


def hyperband_trials(epochs: int, factor: int = 3) -> int:
    """Returns the number of trials that Hyperband needs, over all its rounds.

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
