"""TF_CONFIG, the port, the proxy, and the wait for the other workers."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from keras_elu.distributed import cluster


def config(jobs, kind="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


TWO = ["a:1", "b:2"]
READ = {
    "the first worker is the chief": (config({"worker": TWO}), ("a:1", "b:2"), 0),
    "the second is not": (config({"worker": TWO}, index=1), ("a:1", "b:2"), 1),
    "a chief comes first": (config({"worker": TWO, "chief": ["c:3"]}, "chief"), ("c:3", *TWO), 0),
    "workers come after the chief": (
        config({"worker": TWO, "chief": ["c:3"]}, index=1),
        ("c:3", *TWO),
        2,
    ),
    "an address of IPv6": (config({"worker": ["[::1]:4"]}), ("[::1]:4",), 0),
}


@pytest.mark.parametrize(("text", "workers", "index"), READ.values(), ids=READ)
def test_a_cluster_is_read(text, workers, index, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    made = cluster.read()
    assert (made.workers, made.index, made.chief) == (tuple(workers), index, index == 0)
    assert made.address == workers[index]


REFUSED = {
    "absent": (None, "keras_elu.launch --workers N"),
    "not JSON": ("{'cluster'", "not JSON"),
    "no object": ("[1]", "write it as"),
    "no task": (json.dumps({"cluster": {"worker": TWO}}), "write it as"),
    "no cluster": (json.dumps({"task": {"type": "worker", "index": 0}}), "write it as"),
    "no number": (config({"worker": TWO}, index="0"), "write it as"),
    "no workers": (config({}), "no workers"),
    "too large an index": (config({"worker": TWO}, index=2), "worker 2, but it lists 2"),
    "a negative index": (config({"worker": TWO}, index=-1), "worker -1"),
    "no chief": (config({"worker": TWO}, "chief"), "chief 0, but it lists 0"),
    "two chiefs": (config({"chief": TWO}, "chief"), "2 chiefs"),
    "an evaluator": (config({"worker": TWO}, "evaluator"), "'evaluator'"),
    "parameter servers": (config({"worker": TWO, "ps": ["c:3"]}), "'ps'"),
    "no list": (config({"worker": "a:1"}), "list of addresses"),
    "no port": (config({"worker": ["a:1", "b"]}), "'b'"),
    "no host": (config({"worker": [":1"]}), "':1'"),
    "too large a port": (config({"worker": ["a:65536"]}), "65535"),
    "a host without a name": (config({"worker": ["a..b:1"]}), "must be host:port"),
    "no text": (config({"worker": [1]}), "worker 1"),
    "one address twice": (config({"worker": ["a:1", "a:1"]}), "two workers at a:1"),
    "chief and worker in one place": (config({"chief": ["a:1"], "worker": TWO}), "at a:1"),
}


@pytest.mark.parametrize(("text", "part"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_cluster_is_refused_with_one_sentence(text, part, monkeypatch):
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG") as error:
        cluster.read()
    message = str(error.value)
    assert part in message
    assert message.endswith(".")
    assert "\n" not in message


def free_ports(count):
    servers = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def local(count, index=0):
    return cluster.Cluster(tuple(f"localhost:{port}" for port in free_ports(count)), index)


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_in_use_is_refused_and_a_free_one_is_left_free(host):
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        made = cluster.Cluster((f"localhost:{port}",), 0)
        with pytest.raises(ValueError, match=f"port {port} .*in use"):
            cluster.bounded_wait(made, 1).__enter__()
    for _ in range(2):
        with cluster.bounded_wait(made, 1):
            pass


def test_there_is_no_wait_when_all_workers_listen(capfd, monkeypatch):
    made = local(3)
    servers = [socket.create_server(("", int(a.split(":")[1]))) for a in made.workers[1:]]
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    with cluster.bounded_wait(made, 60):
        port = int(made.address.rpartition(":")[2])
        socket.create_server(("", port)).close()  # it is free for TensorFlow
    for server in servers:
        server.close()
    assert capfd.readouterr().err == ""


def test_workers_that_start_one_by_one_meet():
    made, met = local(3), []

    def start(index):
        with cluster.bounded_wait(cluster.Cluster(made.workers, index), 20):
            # From here on it listens on the same port, as TensorFlow does.
            port = int(made.workers[index].split(":")[1])
            met.append((index, socket.create_server(("", port))))

    threads = [threading.Thread(target=start, args=(index,)) for index in range(3)]
    for thread in threads:
        assert met == []
        thread.start()
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    assert sorted(index for index, _ in met) == [0, 1, 2]
    for _, server in met:
        server.close()


def test_a_worker_that_does_not_start_is_named_with_exit_code_1(monkeypatch, capfd):
    monkeypatch.setattr(cluster, "_SILENT", 0.2)
    made = local(3)
    with (
        socket.create_server(("", int(made.workers[1].split(":")[1]))),
        pytest.raises(SystemExit) as stop,
        cluster.bounded_wait(made, 1),
    ):
        raise AssertionError("not all have started")
    absent = f"worker 2 ({made.workers[2]})"
    assert stop.value.code.startswith(f"error: {absent} did not start within 1 s: ")
    assert capfd.readouterr().err == f"waiting for {absent}, at most 1 s\n"


HANGS = """
import sys, tensorflow
from keras_elu.distributed import cluster
made = cluster.read()
cluster._meet = lambda made, seconds: None  # the other worker died after that
with cluster.bounded_wait(made, 3):
    tensorflow.distribute.MultiWorkerMirroredStrategy()
"""


@pytest.mark.multiworker
@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_worker_that_dies_while_the_strategy_is_made_does_not_block_the_other():
    environment = os.environ | {"TF_CONFIG": config({"worker": local(2).workers})}
    command = [sys.executable, "-c", HANGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Timeout (0:00:03)!" in done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,::1"),
        ({"no_proxy": "a.org,localhost"}, "a.org,localhost,::1"),
        ({"no_proxy": "a.org", "no_grpc_proxy": "b.org"}, "b.org,localhost,::1"),
    ],
)
def test_workers_are_excepted_from_the_proxy_and_other_hosts_stay_excepted(
    before, after, monkeypatch
):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    cluster._bypass_proxy(cluster.Cluster(("localhost:1", "localhost:2", "[::1]:3"), 0))
    assert os.environ[cluster._NO_PROXY] == after
    assert os.environ.get("no_proxy") == before.get("no_proxy")


PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")


@pytest.mark.multiworker
@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_proxy_that_does_not_answer_does_not_hinder_the_workers(tmp_path):
    (port,) = free_ports(1)
    proxies = dict.fromkeys(PROXIES, f"http://localhost:{port}")
    script = tmp_path / "trainer.py"
    script.write_text(
        "from keras_elu.distributed import strategies\n"
        "print(strategies.strategy('multiworker').num_replicas_in_sync)"
    )
    command = ["-m", "keras_elu.launch", "--workers", "2", "--restarts", "0", str(script)]
    environment = os.environ | proxies | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] 2", "[1] 2"]


@pytest.mark.parametrize(
    ("text", "strategy", "warns"),
    [
        (config({"worker": TWO}), "default", True),
        (config({"worker": TWO}), "mirrored", True),
        (config({"worker": TWO}), "multiworker", False),
        (config({"worker": ["a:1"]}), "default", False),
        ("{}", "default", False),
        (None, "default", False),
    ],
)
def test_a_cluster_that_the_strategy_leaves_unused_is_a_warning(
    text, strategy, warns, monkeypatch, capsys
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    cluster.warn_if_unused(strategy)
    err = capsys.readouterr().err
    assert err.startswith("warning: TF_CONFIG lists 2 workers") == warns
    assert len(err.splitlines()) == warns
