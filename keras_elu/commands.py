"""Command lines of arguments, where a mistake is one sentence."""

import argparse


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
