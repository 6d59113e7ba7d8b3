"""Processes that write shards, and end when this one does, even if it is killed."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

import tensorflow as tf

from keras_elu.prepare import shards

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Failed(Exception):
    """Shards could not be written; the message is a sentence."""


def run(count: int, jobs: list[shards.Shard], output: shards.Output) -> Iterator[int]:
    """Writes shards, and yields the numbers of images as they are done.

    When this ends, for any reason, processes that are still working are killed. At worst the shards
    that they had begun are lost.

    Args:
        count: Number of processes.
        jobs: What to write.
        output: Where and how.

    Raises:
        Failed: If a shard cannot be written, or a process dies.
    """
    log = output.folder / shards.PROGRESS / "log"
    waiting = iter(jobs)
    with _started(min(count, len(jobs)), output, log) as processes:
        while processes:
            for pipe in multiprocessing.connection.wait(processes):
                try:
                    message = pipe.recv()
                    if message is None:
                        job = next(waiting, None)
                        pipe.send(job)
                except (EOFError, OSError):
                    raise Failed(_death(processes[pipe], log)) from None
                if isinstance(message, str):
                    raise Failed(message)
                if message is not None:
                    yield message
                elif job is None:
                    del processes[pipe]


@contextlib.contextmanager
def _started(count: int, output: shards.Output, log: pathlib.Path) -> Iterator[dict]:
    """Starts processes, and yields them by their pipes."""
    spawn = multiprocessing.get_context("spawn")
    processes, started = {}, []
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # for them: this process has read it already
    resource_tracker.ensure_running()  # otherwise the first start does, and unblocks the signals
    try:
        # A terminal sends Ctrl-C to all processes, but only this one handles it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with _stderr_to(log):  # TensorFlow prints eight lines in each
                for _ in range(count):
                    pipe, theirs = spawn.Pipe()
                    process = spawn.Process(target=_work, args=(theirs, output), daemon=True)
                    process.start()
                    started.append(process)
                    theirs.close()
                    processes[pipe] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield processes
    finally:
        for process in started:
            process.kill()
            process.join()


@contextlib.contextmanager
def _stderr_to(path: pathlib.Path) -> Iterator[None]:
    stderr = os.dup(2)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _death(process: multiprocessing.Process, log: pathlib.Path) -> str:
    process.join(5)
    code = process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return (
        f"A process {how}, possibly out of memory ({log} has its last lines): run the same command "
        "to resume."
    )


def _work(pipe: multiprocessing.connection.Connection, output: shards.Output) -> None:
    """The body of a process: writes shards until it receives None.

    It sends None to ask for a shard, numbers of images that are done, and a sentence when the
    operating system refuses something.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # exit when the parent is gone
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pipe.send(None)
    while shard := pipe.recv():
        try:
            shards.write(shard, output, pipe.send)
        except OSError as error:
            pipe.send(shards.explain(error))
        pipe.send(None)
