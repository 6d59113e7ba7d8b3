"""Files that are complete or not there."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO, Any

_MOST_BYTES = 2**16  # of a config.json


@contextlib.contextmanager
def aside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the path to write to; afterwards the complete file gets its name.

    Example:

    >>> with aside(pathlib.Path("result.txt")) as path:
    ...     _ = path.write_text("all or nothing")
    >>> pathlib.Path("result.txt").read_text()
    'all or nothing'
    """
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def usable(flag: str) -> Iterator[None]:
    """Turns what the operating system says of a folder into a `ValueError` of one sentence."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{error.filename} cannot be the folder of the run ({error.strerror}): name another "
            f"with {flag}."
        ) from error


def check_writable(folder: pathlib.Path, flag: str) -> None:
    """Raises `ValueError`, with one sentence, if a folder cannot be made or written."""
    path = pathlib.Path(os.path.realpath(folder))  # what ".." means once all is made
    if path.exists() and not path.is_dir():
        raise ValueError(f"{flag} {folder} is not a folder.")
    above = next(parent for parent in (path, *path.parents) if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ValueError(f"{flag} {folder} cannot be written: {above} forbids it.")
    for name in path.relative_to(above).parts:
        (above / name).exists()  # raises if no folder can have this name


def lock(folder: pathlib.Path, flag: str) -> IO[str]:
    """Takes a folder, which the operating system gives back however the process ends.

    Raises:
        ValueError: With one sentence, if another process has it.
    """
    file = (folder / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "another process"
        raise ValueError(
            f"{flag} {folder} is in use by {owner}: wait until it ends, or name a new folder."
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a config.json holds.

    Raises:
        ValueError: With one sentence, if it is not a JSON object, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror}).") from error
    if len(content) > _MOST_BYTES:
        raise ValueError(f"the file is longer than a config.json, {_MOST_BYTES:,} bytes.")
    try:
        values = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError("the file does not hold a JSON object.")
    return values


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file holds; nothing if it is not there."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes a file that is whole or not there.

    Example:

    >>> write_json(pathlib.Path("a.json"), {"b": 1})
    >>> read_json(pathlib.Path("a.json"))
    {'b': 1}
    """
    aside = path.with_name(f"unfinished-{path.name}")
    aside.write_text(json.dumps(values, indent=1) + "\n")
    complete(aside, path)


def complete(aside: pathlib.Path, path: pathlib.Path) -> None:
    """Gives a file or a folder its name, once all of it has reached the disk."""
    synchronise(aside)
    aside.replace(path)
    synchronise(path.parent)


def synchronise(path: pathlib.Path) -> None:
    """Waits until a file, or the list of a folder, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
