"""Files that are complete or absent, locks, and JSON."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import secrets
import socket
from collections.abc import Iterator
from typing import IO, Any

_LONGEST_CONFIG = 2**16  # bytes


def path(text: str) -> pathlib.Path:
    """Returns a path of a command line, in which `~` is the home folder.

    A shell expands `--flag ~/folder`, but not `--flag=~/folder`.

    Raises:
        ValueError: With one sentence, if no user has that name.
    """
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{text} cannot be used: that home directory is not known.") from None


@contextlib.contextmanager
def aside(path: pathlib.Path, shared: bool = False) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and then gives the complete file its name.

    The file reaches the disk before it gets its name. If writing fails, nothing remains, and a file
    that already had the name is unchanged.

    Args:
        path: The final name, in a folder that exists.
        shared: Whether other processes may write the same file at the same time, without a lock.

    Example:

    >>> with aside(pathlib.Path("result.txt")) as path:
    ...     _ = path.write_text("all or nothing")
    >>> pathlib.Path("result.txt").read_text()
    'all or nothing'
    """
    writer = f"{secrets.token_hex(4)}-" if shared else ""
    unfinished = path.with_name(f"unfinished-{writer}{path.name}")
    try:
        yield unfinished
        complete(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def complete(unfinished: pathlib.Path, path: pathlib.Path) -> None:
    """Renames a file, or a folder of files, once its content has reached the disk."""
    if unfinished.is_dir():
        for file in unfinished.iterdir():
            if file.is_file():
                _synchronise(file)
    _synchronise(unfinished)
    unfinished.replace(path)
    _synchronise(path.parent)


def _synchronise(path: pathlib.Path) -> None:
    """Waits until a file, or the list of names in a folder, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot do it
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def usable(flag: str) -> Iterator[None]:
    """Turns an `OSError` about a run folder into a `ValueError` of one sentence."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{error.filename} cannot be the folder of the run ({error.strerror}): name another "
            f"with {flag}."
        ) from error


def check_writable(folder: pathlib.Path, flag: str) -> None:
    """Raises `ValueError`, with one sentence, if a folder cannot be created or written to."""
    path = pathlib.Path(os.path.realpath(folder))  # resolves ".." in folders not yet created
    if path.exists() and not path.is_dir():
        raise ValueError(f"{flag} {folder} is not a folder.")
    above = next(parent for parent in (path, *path.parents) if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ValueError(f"{flag} {folder} cannot be written: {above} forbids it.")
    for name in path.relative_to(above).parts:
        (above / name).exists()  # raises OSError if the file system does not allow the name


def lock(path: pathlib.Path, name: str) -> IO[str]:
    """Locks a file for this process, which the file then names as its owner.

    The operating system releases the lock when the returned file is closed, or however the process
    ends. (The library filelock falls back on files that outlive a killed process.)

    Args:
        path: The lock file.
        name: What the lock protects, as an error message calls it.

    Raises:
        ValueError: With one sentence, if another process holds the lock.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            file.seek(0)
            owner = file.read() or "another process"
        raise ValueError(
            f"{name} is in use by {owner}: wait until it ends, or name a new folder."
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def is_locked(path: pathlib.Path) -> bool:
    """Returns whether a process holds the lock on a file, which need not exist.

    Example:

    >>> is_locked(pathlib.Path("lock"))
    False
    >>> with lock(pathlib.Path("lock"), "the folder"):
    ...     is_locked(pathlib.Path("lock"))
    True
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a config.json, a file that people may have edited.

    Raises:
        ValueError: With one sentence, if it is not a JSON object, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_CONFIG + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror}).") from error
    if len(content) > _LONGEST_CONFIG:
        raise ValueError(f"the file is longer than a config.json, {_LONGEST_CONFIG:,} bytes.")
    try:
        values = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError("the file does not hold a JSON object.")
    return values


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a file that `write_json` wrote; `{}` if it does not exist."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes a JSON file `aside`.

    Example:

    >>> write_json(pathlib.Path("a.json"), {"b": 1})
    >>> read_json(pathlib.Path("a.json"))
    {'b': 1}
    """
    with aside(path) as unfinished:
        unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
