"""What all commands share: how they read their arguments, and how they end."""

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator

RESUMABLE = os.EX_TEMPFAIL  # 75, the exit code of a command that stopped, and resumes when rerun


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises `ValueError` instead of printing and exiting.

    Prints the description as written, and accepts no abbreviated names.

    Args:
        module: The module that `python -m` runs.
        description: What the command does.

    Example:

    >>> Parser("keras_elu.report", "Compares runs.").parse_args(["--no"])
    Traceback (most recent call last):
        ...
    ValueError: unrecognized arguments: --no; --help lists the arguments.
    """

    def __init__(self, module: str, description: str):
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message):
        """Raises `ValueError` with the message."""
        raise ValueError(f"{message}; --help lists the arguments.")


def require(*modules: str, extra: str) -> None:
    """Checks that optional dependencies are installed.

    Args:
        modules: Names of top-level modules.
        extra: The extra of this package that installs them.

    Raises:
        ValueError: With one sentence that names the extra, if a module is missing.

    Example:

    >>> require("argparse", "pencil", extra="plots")
    Traceback (most recent call last):
        ...
    ValueError: pencil is missing: pip install '.[plots]' installs it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"{module} is missing: pip install '.[{extra}]' installs it.")


def failure(error: Exception | str) -> int:
    """Prints on stderr, in one line, why a command failed, and returns its exit code.

    Args:
        error: A `ValueError` for a wrong command line; otherwise any exception, or a sentence.

    Returns:
        2 for a `ValueError`, and 1 for all others.
    """
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2 if isinstance(error, ValueError) else 1


@contextlib.contextmanager
def checking_arguments() -> Iterator[None]:
    """Exits as `failure` says if the block raises a `ValueError`."""
    try:
        yield
    except ValueError as error:
        sys.exit(failure(error))
