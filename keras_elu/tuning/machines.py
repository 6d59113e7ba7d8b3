"""A search over several machines: one chief process, which has the oracle, and worker processes."""

import os
import pathlib
import time
from collections.abc import Callable

import grpc
import keras_tuner

from keras_elu.tuning import oracles, tuner_internals

_ENVIRONMENT = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")

_PATIENCE = 3600  # seconds to wait for a chief to be started again


class CannotRun(Exception):
    """No trial can run, for a reason that is not in the trial."""


class Interrupted(Exception):
    """The search is to stop while its chief does not answer."""


class RemoteOracle:
    """The oracle of the chief, as a worker process sees it.

    A chief that does not answer may be started again: every request is repeated for an hour.

    Args:
        oracle: A local oracle of the same kind.
        folder: Folder of the search.
        stop: Returns whether to stop.
    """

    def __init__(self, oracle: keras_tuner.Oracle, folder: pathlib.Path, stop: Callable[[], bool]):
        self._client, self._stopping = tuner_internals.client(oracle, folder), stop

    def create_trial(self, *arguments):
        return self._ask(self._client.create_trial, *arguments)

    def update_trial(self, *arguments, **named):
        return self._ask(self._client.update_trial, *arguments, **named)

    def end_trial(self, *arguments):
        return self._ask(self._client.end_trial, *arguments)

    def _ask(self, call: Callable, *arguments, **named):
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return call(*arguments, **named)  # waits for a connection
            except grpc.RpcError as error:
                if self._stopping():
                    raise Interrupted from error
                if time.monotonic() > deadline:
                    raise CannotRun("The chief has not answered for an hour.") from error
                time.sleep(oracles.HEARTBEAT)


def role() -> str:
    """Returns "alone", "chief" or "worker", according to keras-tuner's environment variables."""
    given = [name for name in _ENVIRONMENT if os.environ.get(name)]
    if not given:
        return "alone"
    if missing := [name for name in _ENVIRONMENT if name not in given]:
        raise ValueError(f"{given[0]} is set, but {missing[0]} is not: set all three, or none.")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def address() -> str:
    """Returns the address of the chief."""
    return ":".join(os.environ[name] for name in _ENVIRONMENT[1:])
