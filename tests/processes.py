"""Processes that tests start: which are alive, which have children, and waiting for them."""

import pathlib
import time
from collections.abc import Callable


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended as a zombie."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def command(pid: int) -> bytes:
    """Returns the command line of a process; nothing if it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children(pid: int, program: bytes) -> list[int]:
    """Returns the children of a process that run a program, in the order of their start.

    A parent waits for a child that has yet to start its program, and for helpers such as uname: a
    signal that stops one of these stops both.

    Args:
        pid: The process; it has no children if it has ended.
        program: Part of the command line of the children.
    """
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    try:
        found = sorted(int(child) for task in tasks for child in task.read_text().split())
    except OSError:
        return []
    own = command(pid)
    return [child for child in found if program in command(child) and command(child) != own]


def wait_until(happened: Callable[[], bool], seconds: float = 60, every: float = 0.01) -> None:
    """Waits, and fails if it has not happened in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(every)
