"""Files that are complete or not there."""

import contextlib
import pathlib
from collections.abc import Iterator


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
