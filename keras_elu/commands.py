"""Command lines of arguments, where a mistake is one sentence."""

import argparse
import importlib.util


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
