"""The workers of a cluster, read from TF_CONFIG, and the wait for all of them to start."""

import contextlib
import dataclasses
import faulthandler
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator

_START = (
    "start with `python -m keras_elu.launch --workers N trainers/x.py ...`, or set TF_CONFIG on "
    "each worker"
)
_FORM = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
_NO_PROXY = "no_grpc_proxy"  # read only by gRPC, which then ignores no_proxy
_SILENT = 5  # seconds until a wait prints a message


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers that train one model together, and the index of this one.

    Args:
        workers: `host:port` of every worker, the chief first.
        index: Position of this process in `workers`, from 0.

    Example:

    >>> cluster = Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), index=1)
    >>> cluster.address, cluster.chief
    ('10.0.0.2:2222', False)
    """

    workers: tuple[str, ...]
    index: int

    @property
    def chief(self) -> bool:
        """Whether this worker writes the run folder and prints."""
        return self.index == 0

    @property
    def address(self) -> str:
        """This worker's `host:port`."""
        return self.workers[self.index]


def read() -> Cluster:
    """Returns the cluster that the environment variable `TF_CONFIG` describes.

    It has TensorFlow's format, with the jobs `chief`, with at most one address, and `worker`.
    Without a chief, worker 0 is the chief.

    Raises:
        ValueError: With one sentence, if `TF_CONFIG` is missing or has another format.

    Reference:
        `tf.distribute.cluster_resolver.TFConfigClusterResolver`.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise ValueError(f"Several workers need TF_CONFIG, which is not set: {_START}.")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"TF_CONFIG is not JSON ({error}): {_START}.") from error
    match config:
        case {"cluster": {**jobs}, "task": {"type": str(kind), "index": int(index)}}:
            pass
        case _:
            raise ValueError(f"TF_CONFIG is {text}: write it as {_FORM}.")
    if wrong := sorted({kind, *map(str, jobs)} - {"chief", "worker"}):
        raise ValueError(
            f"TF_CONFIG has the job {wrong[0]!r}, which is neither chief nor worker: remove it."
        )
    chiefs, others = (_addresses(job, jobs.get(job, [])) for job in ("chief", "worker"))
    if len(chiefs) > 1:
        raise ValueError(f"TF_CONFIG has {len(chiefs)} chiefs: name only one of them.")
    workers = chiefs + others
    if not workers:
        raise ValueError(f"TF_CONFIG has no workers: list them, as in {_FORM}.")
    if twice := [address for address in workers if workers.count(address) > 1]:
        raise ValueError(f"TF_CONFIG has two workers at {twice[0]}: give each its own port.")
    count = len(chiefs if kind == "chief" else others)
    if not 0 <= index < count:
        raise ValueError(
            f"TF_CONFIG says that this is {kind} {index}, but it lists {count} of this type: count "
            "them from 0."
        )
    return Cluster(workers, index if kind == "chief" else len(chiefs) + index)


def warn_if_unused(strategy: str) -> None:
    """Warns on stderr if `TF_CONFIG` lists several workers, but the strategy uses only this one.

    Args:
        strategy: Name of the strategy, as for `keras_elu.training.strategy`.
    """
    if strategy == "multiworker" or not os.environ.get("TF_CONFIG"):
        return
    try:
        count = len(read().workers)
    except ValueError:  # TF_CONFIG of another program
        return
    if count > 1:
        print(
            f"warning: TF_CONFIG lists {count} workers, but --strategy {strategy} trains on this "
            "one alone: add --strategy multiworker to train on all of them.",
            file=sys.stderr,
            flush=True,
        )


def absent(cluster: Cluster, message: str) -> str | None:
    """Returns the name of another worker that TensorFlow's error message mentions, if any.

    Example:

    >>> two = Cluster(("localhost:1", "localhost:2"), 0)
    >>> absent(two, "The tasks have crashed: /job:worker/replica:0/task:1")
    'worker 1 (localhost:2)'
    """
    numbers = map(int, re.findall(r"/job:worker/replica:0/task:(\d+)", message))
    number = next((n for n in numbers if n != cluster.index), None)
    return None if number is None else f"worker {number} ({cluster.workers[number]})"


def _addresses(job: str, addresses) -> tuple[str, ...]:
    if not isinstance(addresses, list):
        raise ValueError(
            f"TF_CONFIG has {addresses!r} as {job}, which must be a list of addresses host:port."
        )
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not (_is_name(host) and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(
                f"TF_CONFIG has the {job} {address!r}, which must be host:port with a port from 1 "
                "to 65535."
            )
    return tuple(addresses)


def _is_name(host: str) -> bool:
    """Returns whether a host can have this name; "a..b" is not a name."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _listen(cluster: Cluster) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    _, port = _host_and_port(cluster.address)
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        reason = error.strerror
        raise ValueError(
            f"Worker {cluster.index} cannot listen on port {port} ({reason}): end the process that "
            "uses it, or give the worker another port in TF_CONFIG."
        ) from error


@contextlib.contextmanager
def bounded_wait(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Bounds the time for creating the strategy, for which TensorFlow would wait an hour.

    While TensorFlow waits, the interpreter is locked: no thread runs, and Ctrl-C has no effect.
    This function therefore waits first: each worker listens on its port until all of them do.

    Args:
        cluster: The workers.
        seconds: The longest wait for the other workers, and for the strategy after that.

    Raises:
        ValueError: With one sentence, if this worker cannot listen on its port.
        SystemExit: With one sentence on stderr and exit code 1, if a worker does not start in time.
    """
    _bypass_proxy(cluster)
    _meet(cluster, seconds)
    # If a peer dies after this point, the timer ends the process with code 1. It does not need the
    # interpreter.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _bypass_proxy(cluster: Cluster) -> None:
    """Lets gRPC connect to the workers directly, even if http_proxy or the like is set.

    Otherwise gRPC contacts every worker through the proxy, even localhost, and retries forever.
    """
    excepted = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy") or ""
    hosts = [_host_and_port(address)[0] for address in cluster.workers]
    names = [*excepted.split(","), *hosts]
    os.environ[_NO_PROXY] = ",".join(dict.fromkeys(filter(None, names)))


def _meet(cluster: Cluster, seconds: float) -> None:
    start, silent = time.monotonic(), True
    absent = [index for index in range(len(cluster.workers)) if index != cluster.index]
    with _listen(cluster):
        while absent := [index for index in absent if not _listens(cluster.workers[index])]:
            waited = time.monotonic() - start
            names = ", ".join(f"{index} ({cluster.workers[index]})" for index in absent)
            names = f"worker{'s' * (len(absent) > 1)} {names}"
            if waited > seconds:
                sys.exit(
                    f"error: {names} did not start within {seconds:g} s: start what is missing, or "
                    "correct TF_CONFIG."
                )
            if silent and waited > _SILENT:
                print(f"waiting for {names}, at most {seconds:g} s", file=sys.stderr, flush=True)
                silent = False
            time.sleep(0.1)


def _listens(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=1).close()
    except OSError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
