"""Processes that write shards, and what becomes of them when they, or this one, are killed."""

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
    """What keeps shards from being written; the message is a sentence."""


def run(count: int, jobs: list[shards.Shard], recipe: shards.Recipe) -> Iterator[int]:
    """Writes shards, and yields numbers of images as they are done.

    Processes that are still at work when this ends, however it does, are killed: at worst shards
    that are begun are lost.

    Args:
        count: How many processes.
        jobs: What to write.
        recipe: Where and how.

    Raises:
        Failed: If a shard cannot be written, or a process dies.
    """
    log = recipe.folder / shards.PROGRESS / "log"
    waiting = iter(jobs)
    with _started(min(count, len(jobs)), recipe, log) as processes:
        while processes:
            for pipe in multiprocessing.connection.wait(processes):
                try:
                    said = pipe.recv()
                    if said is None:
                        job = next(waiting, None)
                        pipe.send(job)
                except (EOFError, OSError):
                    raise Failed(_death(processes[pipe], log)) from None
                if isinstance(said, str):
                    raise Failed(said)
                if said is not None:
                    yield said
                elif job is None:
                    del processes[pipe]


@contextlib.contextmanager
def _started(count: int, recipe: shards.Recipe, log: pathlib.Path) -> Iterator[dict]:
    """Processes by their pipes."""
    spawn = multiprocessing.get_context("spawn")
    processes, started = {}, []
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # theirs: this process has read it
    resource_tracker.ensure_running()  # the first start would do it, and unblock the signals
    try:
        # A terminal sends Ctrl-C to all, but it is this process that has an answer.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with _stderr_to(log):  # TensorFlow has eight lines to say in each
                for _ in range(count):
                    pipe, theirs = spawn.Pipe()
                    process = spawn.Process(target=_work, args=(theirs, recipe), daemon=True)
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
        f"A process {how}, as for want of memory ({log} has its last words): the same command "
        "goes on."
    )


def _work(pipe: multiprocessing.connection.Connection, recipe: shards.Recipe) -> None:
    """The body of a process: writes shards until it is sent None.

    It sends None when it wants a shard, numbers of images that are done, and a sentence where the
    operating system refuses something.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # once nobody listens, it dies of the next word
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pipe.send(None)
    while shard := pipe.recv():
        try:
            shards.write(shard, recipe, pipe.send)
        except OSError as error:
            pipe.send(shards.explain(error))
        pipe.send(None)
