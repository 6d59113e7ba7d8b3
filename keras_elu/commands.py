"""What all commands share: how they read their arguments, and how they end."""

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence

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


def trainer_arguments(
    module: str, description: str | None, arguments: Sequence[str] | None
) -> list[str]:
    """Returns the script and the flags of a command that examines a trainer.

    Args:
        module: The module, of which `python -m` is the command.
        description: Its description in `--help`.
        arguments: The command line. None: the process's own.

    Raises:
        ValueError: If no script is given.
        SystemExit: After `--help` has been printed.

    Example:

    >>> trainer_arguments("keras_elu.audit", "", ["trainers/mnist.py", "--seed", "1"])
    ['trainers/mnist.py', '--seed', '1']
    """
    parser = Parser(module, description)
    parser.add_argument("script", nargs="?", help="the trainer, such as trainers/mnist.py")
    parser.add_argument(
        "flags", nargs=argparse.REMAINDER, help="its own flags, which `SCRIPT --help` lists"
    )
    options = parser.parse_args(arguments)
    if options.script is None:
        raise ValueError(
            f"Name a trainer and its flags: python -m {module} trainers/mnist.py --dataset digits."
        )
    return [options.script, *options.flags]
