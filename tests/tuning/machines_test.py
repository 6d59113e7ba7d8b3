"""Searches over machines: roles, and a chief that is reached in any environment."""

import contextlib
import socket
import threading
import time

import keras_tuner
import pytest
from keras_tuner.src.distribute import oracle_client

from keras_elu.tuning import machines, oracles, tuner_internals

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
ROLES = {
    "no variable": (None, "alone"),
    "a chief": ("chief", "chief"),
    "a chief with a name": ("my-chief", "chief"),
    "a worker": ("worker-1", "worker"),
}


@pytest.fixture
def cluster(monkeypatch):
    """Sets keras-tuner's variables, for an address of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def set_name(name):
        for variable, value in zip(VARIABLES, (name, "127.0.0.1", str(port)), strict=True):
            monkeypatch.setenv(variable, value)

    monkeypatch.setenv("no_grpc_proxy", "")  # restored after the test
    return set_name


def wait_until_it_listens(address):
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, int(port))).close()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("name", "role"), ROLES.values(), ids=ROLES)
def test_the_name_gives_the_role(name, role, cluster, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    if name:
        cluster(name)
    assert machines.role() == role


def test_a_worker_reaches_its_chief_where_a_proxy_is_set_that_does_not_listen(
    cluster, tmp_path, monkeypatch, capfd
):
    (tmp_path / "trials").mkdir()
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["b"]):
        hp.Float("y", 0.0, 1.0, default=0.25)
    given = {"objective": "val_loss", "direction": "min", "max_trials": 3, "epochs": 9, "seed": 0}
    oracle = oracles.make("random", hp, **given, folder=tmp_path)
    cluster("chief")
    arguments = oracle, tmp_path
    threading.Thread(target=tuner_internals.serve, args=arguments, daemon=True).start()
    wait_until_it_listens(machines.address())
    for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr(machines, "_PATIENCE", 0)
    cluster("worker-1")
    remote = machines.RemoteOracle(oracle, tmp_path, lambda: False)
    trial = remote.create_trial("worker-1-0")
    assert (trial.trial_id, trial.status) == ("0", "RUNNING")
    assert remote.update_trial("0", {"val_loss": 0.5}, step=1).status == "RUNNING"
    assert oracle._curves == {"0": {1: 0.5}}
    said = capfd.readouterr()
    assert said.out + said.err == ""  # nor keras-tuner's debugging print


def test_a_chief_that_never_answers_ends_the_worker_with_a_sentence(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_client, "TIMEOUT", 0.2)
    monkeypatch.setattr(machines, "_PATIENCE", 0)
    cluster("worker-1")
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", 3)
    with pytest.raises(machines.CannotRun, match="has not answered for an hour"):
        machines.RemoteOracle(oracle, tmp_path, lambda: False).create_trial("worker-1-0")


def test_a_worker_that_is_to_stop_does_not_wait_for_its_chief(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(oracle_client, "TIMEOUT", 0.2)
    cluster("worker-1")
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", 3)
    remote = machines.RemoteOracle(oracle, tmp_path, stop=lambda: True)
    with pytest.raises(machines.Interrupted):
        remote.create_trial("worker-1-0")
