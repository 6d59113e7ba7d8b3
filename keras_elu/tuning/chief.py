"""A search over machines: its chief, and what stands for it at its workers."""

import contextlib
import io
import os
import pathlib
import time

import grpc
import keras_tuner
from keras_tuner.engine import base_tuner

from keras_elu.tuning import oracles

_ENVIRONMENT = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")

_PATIENCE = 3600  # seconds that a chief has to be back


class CannotRun(Exception):
    """No trial can run: what is wrong is not the trial's."""


def connected(oracle: keras_tuner.Oracle, folder: pathlib.Path) -> base_tuner.BaseTuner:
    """Returns keras-tuner's end of a search over machines: a chief's server, or a worker's client.

    It would print where it looks for an earlier search and, with a `print` that was left in
    `Parent.to_proto` of keras-tuner 1.4.8, every condition that it sends.
    """
    if keras_tuner.__version__ == "1.4.8":
        from keras_tuner.src.engine import conditions  # which has no public name

        conditions.print = lambda *_: None
    with contextlib.redirect_stdout(io.StringIO()):
        return base_tuner.BaseTuner(oracle, directory=folder.parent, project_name=folder.name)


class Chief:
    """Stands for the oracle of the chief that keras-tuner's environment names.

    A chief that does not answer may be started again: it is asked for an hour.

    Args:
        oracle: An oracle of the same kind.
        folder: Folder of the search.
    """

    def __init__(self, oracle: keras_tuner.Oracle, folder: pathlib.Path):
        self._client = connected(oracle, folder).oracle

    def create_trial(self, *arguments):
        return self._ask(self._client.create_trial, *arguments)

    def update_trial(self, *arguments, **named):
        return self._ask(self._client.update_trial, *arguments, **named)

    def end_trial(self, *arguments):
        return self._ask(self._client.end_trial, *arguments)

    def _ask(self, call, *arguments, **named):
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return call(*arguments, **named)  # which waits until there is a connection
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise CannotRun("The chief has not answered for an hour.") from error
                time.sleep(oracles.HEARTBEAT)


def role() -> str:
    """Returns "alone", "chief" or "worker", as keras-tuner's environment says."""
    given = [name for name in _ENVIRONMENT if os.environ.get(name)]
    if not given:
        return "alone"
    if missing := [name for name in _ENVIRONMENT if name not in given]:
        raise ValueError(f"{given[0]} is set, but {missing[0]} is not: set all three, or none.")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def address() -> str:
    return ":".join(os.environ[name] for name in _ENVIRONMENT[1:])
