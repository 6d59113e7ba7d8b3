"""The processes of steps.py: each contestant has its own, and they take turns."""

import contextlib
import json
import multiprocessing
import os
import pathlib
import socket
import sys
import time

from steps_contestants import KINDS


class Turns:
    """Reports the times of a turn to the parent, and waits for the next; exits after the last."""

    def __init__(self, pipe):
        self._pipe = pipe
        pipe.send("ready")
        self._next()

    def _next(self):
        self._steps = self._left = self._pipe.recv()
        if not self._steps:
            # Not ru_maxrss, which starts at the memory of the parent.
            status = pathlib.Path("/proc/self/status").read_text()
            self._pipe.send(1024 * int(status.split("VmHWM:")[1].split()[0]))
            sys.exit()
        self._begin = self._now()

    def done(self, steps, wait):
        """Counts steps; `wait` waits for the last of them."""
        self._left -= steps
        if self._left <= 0:
            wait()
            took = zip(self._now(), self._begin, strict=True)
            self._pipe.send([(end - begin) / self._steps for end, begin in took])
            self._next()

    @staticmethod
    def _now():
        return time.perf_counter(), time.process_time()


def serve(pipe, environment, core, kind, arguments):
    """Answers with seconds per step until the parent sends 0; then with the peak memory."""
    os.environ |= environment
    if core is not None:
        os.sched_setaffinity(0, [core])
    KINDS[kind](**arguments).train(Turns(pipe))


class Contestant:
    """The processes of one contestant: one, or one per worker."""

    def __init__(self, kind, arguments, environment):
        environments = [(environment, None)]
        if arguments.get("strategy") == "multiworker":
            cores = sorted(os.sched_getaffinity(0))[:2]
            environments = [
                (environment | {"TF_CONFIG": config, "TF_NUM_INTRAOP_THREADS": "1"}, core)
                for config, core in zip(clusters(len(cores)), cores, strict=True)
            ]
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for environment, core in environments:
            pipe, theirs = context.Pipe()
            given = theirs, environment, core, kind, arguments
            context.Process(target=serve, args=given, daemon=True).start()
            theirs.close()  # so that the parent notices if the process dies
            self._pipes.append(pipe)

    def wait(self):
        return [pipe.recv() for pipe in self._pipes]

    def ask(self, steps):
        for pipe in self._pipes:
            pipe.send(steps)
        return self.wait()


def clusters(count):
    """Returns TF_CONFIG for each worker."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        addresses = [f"localhost:{server.getsockname()[1]}" for server in servers]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})
        for i in range(count)
    ]
