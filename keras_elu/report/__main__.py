"""Compares runs.

python -m keras_elu.report runs/a runs/b runs/c

Runs whose configurations differ in the seed only count as one. Writes pictures of all curves, and a
page, index.html, that holds everything in one file and needs no network.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from keras_elu import commands
from keras_elu.files import aside
from keras_elu.report import runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what a command line describes, and returns the exit code: 2 if it is wrong.

    Args:
        arguments: The command line. None: the process's own.
    """
    try:
        options = _parse(arguments)
        found = [runs.read(path) for path in dict.fromkeys(options.runs)]
        page = write(found, options.out, options.accuracy)
    except ValueError as error:
        return commands.failure(error)
    print(f"The comparison is in {page}.")
    return 0


def write(
    found: Sequence[runs.Run], folder: pathlib.Path, accuracy: float | None = None
) -> pathlib.Path:
    """Writes pictures and page, and returns the path of the page.

    Args:
        found: The runs.
        folder: The folder, which is made.
        accuracy: Validation accuracy to which time and steps are counted. None: that which all
            runs have reached, rounded down to a percent.

    Raises:
        ValueError: With one sentence, if the folder cannot be written, or matplotlib is missing.
    """
    try:
        from keras_elu.report import charts, page
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: pip install '.[plots]' has it.") from error
    groups = runs.grouped(found)
    accuracy = runs.common_accuracy(groups) if accuracy is None else accuracy
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {}
        for metric in runs.metrics(groups):
            names = {"light": f"{metric}.png", "dark": f"{metric}-dark.png"}
            pictures[metric] = {theme: folder / name for theme, name in names.items()}
            for theme, path in pictures[metric].items():
                charts.draw(metric, groups, path, theme)
        with aside(folder / "index.html") as path:
            path.write_text(page.write(groups, pictures, accuracy), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written ({error.strerror}).") from error
    return folder / "index.html"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.report", __doc__)
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("report"),
        metavar="FOLDER",
        help="where pictures and page come to lie (default: report)",
    )
    parser.add_argument(
        "--accuracy",
        type=_share,
        metavar="SHARE",
        help="validation accuracy, such as 0.97, to which time and steps are counted (default: "
        "that which all runs have reached)",
    )
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 1, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
