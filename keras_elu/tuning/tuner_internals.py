"""Everything that relies on how keras-tuner works inside, for the version it was written for.

keras-tuner has no public way to keep an oracle's state in one file, to give a lost trial to another
worker, or to start the server of a chief without a tuner. That code is here and nowhere else.
"""

import contextlib
import io
import json
import os
import pathlib
import sys

import keras_tuner

if not keras_tuner.__version__.startswith("1.4."):
    raise ImportError(
        f"keras_elu.tuning works with keras-tuner 1.4, not {keras_tuner.__version__}: install "
        "'keras-tuner==1.4.*'."
    )

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src.distribute import oracle_client
from keras_tuner.src.engine import conditions

from keras_elu import files

RUNNING, IDLE, COMPLETED = TrialStatus.RUNNING, TrialStatus.IDLE, TrialStatus.COMPLETED
# The answer to a worker that asks for a trial: there will be no more.
# The answer to a worker that reports on a trial: stop it.
STOP = TrialStatus.STOPPED
_NO_LIMIT = 2**31 - 1

# `Parent.to_proto` in keras-tuner 1.4.8 still has a debugging `print`, which would write every
# condition of the search space to the terminal of the chief and its workers.
conditions.print = lambda *_: None

# Seconds of a request to the chief. keras-tuner would wait for an hour in a single one, deaf to
# signals. A request that is repeated has the same answer.
oracle_client.TIMEOUT = 30


class RestartableOracle:
    """A part of an oracle class that keeps the whole state in one file.

    keras-tuner saves an oracle in one file for itself and one for each trial, none of them
    atomically, so that a kill can leave a state that it cannot read.
    """

    def restore(self, path: pathlib.Path) -> None:
        """Sets the file of the state, and continues from the state in it.

        Args:
            path: A JSON file; it need not exist.
        """
        self._path, self._failing = path, False
        self.tuner_ids.add(self)  # keras-tuner's server would exit once this set is empty
        self.verbose = 0
        self.max_retries_per_trial = self.max_consecutive_failed_trials = _NO_LIMIT
        if not path.exists():
            return
        state = json.loads(path.read_text(encoding="utf-8"))
        trials = [Trial.from_state(trial) for trial in state["trials"]]
        self.trials = {trial.trial_id: trial for trial in trials}
        self.set_state(state["oracle"])
        # keras-tuner saves the end of a trial before it takes the trial from its worker. Running
        # trials stay with their workers, which may still be alive.
        self.ongoing_trials = {
            worker: trial
            for worker, trial in self.ongoing_trials.items()
            if trial.status == RUNNING
        }

    def save(self):
        """Writes the file; if the disk refuses, the next change writes it."""
        state = {
            "oracle": self.get_state(),
            "trials": [trial.get_state() for trial in self.trials.values()],
        }
        try:
            with files.aside(self._path) as path:
                path.write_text(json.dumps(state), encoding="utf-8")
            self._failing = False
        except OSError as error:
            if not self._failing:
                print(
                    f"{self._path} could not be written ({error.strerror}): the search continues "
                    "and will try again",
                    file=sys.stderr,
                    flush=True,
                )
            self._failing = True

    def reload(self):
        """Does nothing: `restore` has read the file."""

    def _save_trial(self, trial):
        """Does nothing: `save` writes all trials."""

    def requeue(self, trial: Trial) -> None:
        """Takes a running trial from its worker and gives it to the next one that asks."""
        trial.status = TrialStatus.INVALID  # the status of trials that keras-tuner runs again
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the number of retries
            super().end_trial(trial)

    def complete(self, trial: Trial) -> None:
        """Ends a trial, also one that is waiting for another worker."""
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        trial.status = COMPLETED
        super().end_trial(trial)


def client(oracle: keras_tuner.Oracle, folder: pathlib.Path):
    """Returns the oracle of the chief as a worker process sees it, over the network.

    The chief is in the same cluster, and no proxy knows it. gRPC uses one for every address
    where http_proxy is set, and then waits without a word
    (https://github.com/keras-team/keras-tuner/pull/981).
    """
    os.environ["no_grpc_proxy"] = os.environ["KERASTUNER_ORACLE_IP"]  # noqa: SIM112
    return _tuner(oracle, folder).oracle


def serve(oracle: keras_tuner.Oracle, folder: pathlib.Path) -> None:
    """Answers worker processes; returns only if the address cannot be used."""
    _tuner(oracle, folder).search()


def _tuner(oracle, folder) -> BaseTuner:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where it looks for earlier searches
        return BaseTuner(oracle, directory=folder.parent, project_name=folder.name)
