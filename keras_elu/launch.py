"""Starts several workers of a trainer on this machine, for development.

python -m keras_elu.launch --workers 2 trainers/mnist.py --epochs 2

TF_CONFIG gives each worker the addresses of all workers, and each line of output begins with the
number of its worker. The workers share the cores and the GPUs. If a worker dies, launch stops the
others and restarts all of them in the same run folder, unless the failure would only repeat itself.
The trainer also receives `--strategy multiworker`, and `--run_dir runs/NAME-TIME` if the command
line has none.
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

from keras_elu import files, system

_TO_STOP = 5  # seconds that the other workers have to end when one has died
_TO_SAVE = 30  # seconds that all workers have to save and end when the run is stopped
_one_line = threading.Lock()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the workers of a command line, and returns the exit code.

    The code is 0 if all workers succeed, 2 for a wrong command line, 75 if the run was stopped and
    has saved, and 128 + N if signal N stopped it before it could save. Otherwise it is the exit
    code of the worker that died, or 128 + N if signal N killed that worker.

    Args:
        arguments: The command line. None: the process's own.
    """
    system.open_standard_streams()
    try:
        options = _parse(arguments)
        flags = _complete(options.script, options.flags)
    except ValueError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return _run([sys.executable, options.script, *flags], options.workers, options.restarts)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message}; --help lists the flags.")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m keras_elu.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workers", type=int, required=True, metavar="N", help="number of worker processes"
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=3,
        metavar="N",
        help="how often all workers may be restarted (default: 3)",
    )
    parser.add_argument("script", help="the trainer, such as trainers/mnist.py")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="the trainer's own flags")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        raise ValueError(f"--workers must be a positive number, not {options.workers}.")
    if options.restarts < 0:
        raise ValueError(f"--restarts must be 0 or more, not {options.restarts}.")
    options.script = str(files.path(options.script))
    if 0 < (gpus := len(system.gpus())) < options.workers:
        raise ValueError(
            f"--workers {options.workers} needs as many GPUs, of which NCCL gives each worker its "
            f"own, and there are {gpus}: start at most {gpus}, or set CUDA_VISIBLE_DEVICES=-1."
        )
    if not pathlib.Path(options.script).is_file():
        raise ValueError(
            f"{options.script} is not a file: name a script, such as trainers/mnist.py."
        )
    return options


def _complete(script: str, flags: list[str]) -> list[str]:
    """Returns the flags with those that every worker needs."""
    strategy, run_dir = _value(flags, "--strategy"), _value(flags, "--run_dir")
    if strategy not in (None, "multiworker"):
        raise ValueError(f"--strategy {strategy} has no workers: use multiworker, or leave it out.")
    if strategy is None:
        flags = [*flags, "--strategy", "multiworker"]
    if run_dir is None:  # one for all workers and all restarts
        name = f"{pathlib.Path(script).stem}-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}"
        flags = [*flags, "--run_dir", str(pathlib.Path("runs", name))]
    return flags


def _value(flags: list[str], name: str) -> str | None:
    """Returns the last value of a flag; None if the flag is missing."""
    value = None
    for flag, following in itertools.pairwise([*flags, ""]):
        key, equals, text = flag.partition("=")
        if key.startswith("--") and key.replace("-", "_") == name.replace("-", "_"):
            value = text if equals else following
    return value


def _run(command: list[str], workers: int, restarts: int) -> int:
    events = queue.SimpleQueue()  # (worker, exit code), or (None, signal)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, lambda number, frame: events.put((None, number)))
    checkpoints = pathlib.Path(_value(command, "--run_dir"), "checkpoints")
    before = None
    for restart in range(restarts + 1):
        worker, code, saved = _attempt(command, workers, events)
        if saved:
            return os.EX_TEMPFAIL
        if worker is None:
            return 128 + code
        if code in (0, 2):
            return code
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        failure = code, {path.name for path in checkpoints.glob("step-*")}
        repeats = code > 0 and failure == before  # a signal may come from outside
        before = failure
        if repeats:
            end = "again without a new checkpoint, and would do so the next time"
        elif restart < restarts:
            end = f"restarting all workers, {restart + 1} of at most {restarts} times"
        else:
            end = "this was the last attempt"
        separator = " " if repeats else ": "
        print(f"launch: worker {worker} {how}{separator}{end}.", file=sys.stderr, flush=True)
        if repeats:
            break
    return code if code > 0 else 128 - code


def _attempt(
    command: list[str], workers: int, events: queue.SimpleQueue
) -> tuple[int | None, int, bool]:
    """Runs all workers to their ends; returns the decisive event, and whether all have saved."""
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
        if decided is None and code:
            decided = worker, code
            if worker is None:
                _send(group, signal.SIGTERM if code == signal.SIGPIPE else code)
            elif code != os.EX_TEMPFAIL:  # one worker that is stopped stops all
                _send(group, signal.SIGTERM)
            saving = worker is None or code == os.EX_TEMPFAIL
            deadline = time.monotonic() + (_TO_SAVE if saving else _TO_STOP)
        elif worker is None and code != signal.SIGPIPE:  # a second signal
            _send(group, signal.SIGKILL)
            decided = worker, code
    for worker in group:
        worker.join()
    return *(decided or (0, 0)), saved


def _environments(workers: int) -> list[dict[str, str]]:
    """Returns each worker's environment, with free ports and its share of cores and GPUs."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(workers)]
        addresses = [f"localhost:{server.getsockname()[1]}" for server in servers]
    environment = {"PYTHONUNBUFFERED": "1"} | os.environ
    if workers > 1:
        threads = str(max(1, system.cores() // workers))
        environment = {"TF_NUM_INTRAOP_THREADS": threads} | environment
    cluster, gpus = {"worker": addresses}, system.gpus()

    def share(index):
        own = gpus[index * len(gpus) // workers : (index + 1) * len(gpus) // workers]
        return {"CUDA_VISIBLE_DEVICES": ",".join(own)} if own else {}

    return [
        environment
        | share(i)
        | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})}
        for i in range(workers)
    ]


class _Worker:
    """A process whose output is shown, and whose end is reported."""

    def __init__(self, index, command, environment, events):
        self.process = system.start(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="latin-1",  # every byte there and back
        )
        streams = {self.process.stdout: sys.stdout, self.process.stderr: sys.stderr}
        self._threads = [
            *(
                threading.Thread(target=_show, args=(index, pipe, stream, events))
                for pipe, stream in streams.items()
            ),
            threading.Thread(target=self._report, args=(index, events)),
        ]
        for thread in self._threads:
            thread.start()

    def _report(self, index, events):
        code = self.process.wait()
        self.send(signal.SIGKILL)  # its own children
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


def _show(index, pipe, stream, events):
    """Copies lines until the pipe ends, also if the stream's reader is gone, as after `| head`."""
    written = True
    for line in pipe:  # a carriage return, as in a progress bar, ends a line too
        if not written:
            continue
        with _one_line:
            try:
                stream.buffer.write(f"[{index}] {line.rstrip(chr(10))}\n".encode("latin-1"))
                stream.flush()
            except OSError:
                written = False
                events.put((None, signal.SIGPIPE))


if __name__ == "__main__":
    sys.exit(main())
