"""Starts several workers of a trainer on this machine, to develop with.

python -m keras_elu.launch --workers 2 trainers/mnist.py --epochs 2

Each worker is told of the others by TF_CONFIG, and its output has its number before each line. If
one dies, the rest is stopped and all start again in the same run folder. The trainer is given
`--strategy multiworker`, and `--run_dir runs/NAME-TIME` unless it has one.
"""

import argparse
import contextlib
import datetime
import itertools
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_TO_STOP = 5  # seconds that the rest has when one worker died
_TO_SAVE = 30  # seconds that all have when this process is told to stop
_one_line = threading.Lock()


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what a command line describes, and returns the exit code.

    It is 0 if every worker's is; 2 for a wrong command line; 75 if the run was told to stop and has
    saved; 128 + N if signal N ended this process before it could; otherwise that of the worker that
    died, where 128 + N stands for signal N.

    Args:
        arguments: The command line. None: the process's own.
    """
    try:
        options = _parse(arguments)
        flags = _complete(options.script, options.flags)
    except ValueError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return _run([sys.executable, options.script, *flags], options.workers, options.restarts)


class _Parser(argparse.ArgumentParser):  # not the package's, which needs all that it imports
    def error(self, message):
        raise ValueError(f"{message}; --help lists the flags.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m keras_elu.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--workers", type=int, required=True, metavar="N", help="processes")
    parser.add_argument(
        "--restarts", type=int, default=3, metavar="N", help="at most, of all (default: 3)"
    )
    parser.add_argument("script", help="the trainer, such as trainers/mnist.py")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="all that follows is the trainer's")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        raise ValueError(f"--workers must be a positive number, not {options.workers}.")
    if options.restarts < 0:
        raise ValueError(f"--restarts must be a whole number from 0, not {options.restarts}.")
    if not pathlib.Path(options.script).is_file():
        raise ValueError(f"{options.script} is not a file: name a script, as trainers/mnist.py.")
    return options


def _complete(script: str, flags: list[str]) -> list[str]:
    """Returns the flags with those that every worker needs."""
    strategy, run_dir = _value(flags, "--strategy"), _value(flags, "--run_dir")
    if strategy not in (None, "multiworker"):
        raise ValueError(f"--strategy {strategy} has no workers: use multiworker, or leave it out.")
    if strategy is None:
        flags = [*flags, "--strategy", "multiworker"]
    if run_dir is None:  # one for all workers and all restarts
        name = f"{pathlib.Path(script).stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        flags = [*flags, "--run_dir", str(pathlib.Path("runs", name))]
    return flags


def _value(flags: list[str], name: str) -> str | None:
    """Returns the value of a flag, the last where it is repeated; None if it is not there."""
    value = None
    for flag, following in itertools.pairwise([*flags, ""]):
        key, equals, text = flag.partition("=")
        if key.startswith("--") and key.replace("-", "_") == name.replace("-", "_"):
            value = text if equals else following
    return value


def _run(command: list[str], workers: int, restarts: int) -> int:
    events = queue.SimpleQueue()  # (worker, exit code), or (None, signal)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: events.put((None, number)))
    for restart in range(restarts + 1):
        worker, code, saved = _attempt(command, workers, events)
        if saved:
            return os.EX_TEMPFAIL
        if worker is None:
            return 128 + code
        if code in (0, 2):
            return code
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        again = f"all start again, {restart + 1} of at most {restarts} times"
        end = again if restart < restarts else "that was the last attempt"
        print(f"launch: worker {worker} {how}: {end}.", file=sys.stderr, flush=True)
    return code if code > 0 else 128 - code


def _attempt(
    command: list[str], workers: int, events: queue.SimpleQueue
) -> tuple[int | None, int, bool]:
    """Runs all workers to their ends; returns what decided, and whether all have saved."""
    group = [
        _Worker(index, command, environment, events)
        for index, environment in enumerate(_environments(workers))
    ]
    running, decided, deadline, saved = workers, None, None, True
    while running:
        try:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            worker, code = events.get(timeout=left)
        except queue.Empty:
            _send(group, signal.SIGKILL)
            deadline = None
            continue
        running -= worker is not None
        saved = saved and (worker is None or code == os.EX_TEMPFAIL)
        if worker is None and decided is not None:  # told to stop while stopping
            _send(group, signal.SIGKILL)
            decided = worker, code
        elif code and decided is None:
            decided = worker, code
            if code != os.EX_TEMPFAIL:  # with which all end once one is told to stop
                _send(group, code if worker is None else signal.SIGTERM)
            saving = worker is None or code == os.EX_TEMPFAIL
            deadline = time.monotonic() + (_TO_SAVE if saving else _TO_STOP)
    for worker in group:
        worker.join()
    return *(decided or (0, 0)), saved


def _environments(workers: int) -> list[dict[str, str]]:
    """Returns every worker's environment, with free ports and its share of the cores."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(workers)]
        addresses = [f"localhost:{server.getsockname()[1]}" for server in servers]
    environment = {"PYTHONUNBUFFERED": "1"} | os.environ
    if workers > 1:
        threads = str(max(1, _cores() // workers))
        environment = {"TF_NUM_INTRAOP_THREADS": threads} | environment
    cluster = {"worker": addresses}
    return [
        environment
        | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})}
        for i in range(workers)
    ]


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


class _Worker:
    """One process, the leader of a group of its own, whose output is shown and end reported."""

    def __init__(self, index, command, environment, events):
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="latin-1",  # every byte there and back
            start_new_session=True,
        )
        self._threads = [
            threading.Thread(target=_show, args=(index, self.process.stdout, sys.stdout)),
            threading.Thread(target=_show, args=(index, self.process.stderr, sys.stderr)),
            threading.Thread(target=self._report, args=(index, events)),
        ]
        for thread in self._threads:
            thread.start()

    def _report(self, index, events):
        code = self.process.wait()
        self.send(signal.SIGKILL)  # what it started and left
        events.put((index, code))

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def join(self):
        for thread in self._threads:
            thread.join()


def _send(group: list[_Worker], number: int) -> None:
    for worker in group:
        if worker.process.returncode is None:
            worker.send(number)


def _show(index, pipe, stream):
    for line in pipe:  # a carriage return, as in a progress bar, ends a line too
        with _one_line:
            try:
                stream.buffer.write(f"[{index}] {line.rstrip(chr(10))}\n".encode("latin-1"))
                stream.flush()
            except BrokenPipeError:  # nobody reads, as after `| head`
                os.kill(os.getpid(), signal.SIGTERM)
                return


if __name__ == "__main__":
    sys.exit(main())
