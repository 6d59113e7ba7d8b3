"""Command lines of arguments, where a mistake is one sentence."""

import argparse
from collections.abc import Sequence


class Parser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, with the description as it is written and whole names only.

    Args:
        module: The module, of which `python -m` is the command.
        description: What it does.

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
