"""The machine: cores, GPUs, standard streams, and children that do not outlive a process."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# The child leads a process group. A guard in the group reads a pipe that only the parent writes to:
# when the parent dies, however it dies, the read ends, and the guard ends the group.
_GUARDED = """
exec 3<&0 </dev/null
{
    trap '' HUP INT TERM
    read -r line <&3
    kill -TERM 0
    sleep 3
    kill -KILL 0
} >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


def cores() -> int:
    """Returns the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def gpus() -> list[str]:
    """Returns the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    return query_gpus("index")


def query_gpus(field: str, *, only_visible: bool = False) -> list[str]:
    """Returns a field of each NVIDIA GPU, from the driver; nothing if there is no driver.

    Args:
        field: As `nvidia-smi --query-gpu` calls it, such as "name" or "memory.free", in MiB.
        only_visible: Whether to leave out GPUs that CUDA_VISIBLE_DEVICES hides.
    """
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if only_visible and visible is not None:
        command.append(f"--id={visible or -1}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def start(command: Sequence[str], **keywords: Any) -> subprocess.Popen:
    """Starts a child in a session of its own, which ends a few seconds after this process does.

    The child and its own children first receive SIGTERM, and after 3 s SIGKILL.

    Args:
        command: The program and its arguments.
        keywords: Further arguments of `subprocess.Popen`, except for `stdin`: the child reads from
            /dev/null, and closing the `stdin` of the result ends the child.

    Example:

    >>> child = start(["sh", "-c", "kill -9 $$"])
    >>> child.wait()
    -9
    """
    return subprocess.Popen(
        ["sh", "-c", _GUARDED, "sh", *command],
        stdin=subprocess.PIPE,
        start_new_session=True,
        **keywords,
    )


def open_standard_streams() -> None:
    """Opens /dev/null for each standard stream that the parent closed, as `2>&-` does in a shell.

    Otherwise the next file that the process opens takes the stream's number, and receives what
    libraries write to it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        try:
            os.fstat(number)
        except OSError:
            os.dup2(null, number)
        setattr(sys, name, os.fdopen(null, "w" if number else "r", encoding="utf-8"))


@contextlib.contextmanager
def surviving_streams(reader_gone: Callable[[], None]) -> Iterator[None]:
    """Lets stdout and stderr accept text in the block also if they cannot be written any more.

    Such a stream continues as /dev/null.

    Args:
        reader_gone: Called if the reader of a stream is gone, such as `tee` after Ctrl-C.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Surviving(stream, reader_gone) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


class _Surviving:
    def __init__(self, stream, reader_gone):
        self._stream, self._reader_gone = stream, reader_gone

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._try(self._stream.write, text)
        return len(text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, act, *arguments):
        try:
            act(*arguments)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            if error.errno == errno.EPIPE:
                self._reader_gone()
