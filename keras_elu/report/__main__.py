"""Compares runs.

python -m keras_elu.report runs/a runs/b runs/c

Runs that differ only in their seed form one group. The report is one page, index.html, which needs
no network, and the pictures of its curves. Folders without a completed epoch are left out.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from keras_elu import commands, files
from keras_elu.report import runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 2 for a wrong command line.

    Args:
        arguments: The command line. None: the process's own.
    """
    try:
        parsed = _parse(arguments)
        found, left_out = runs.read_all(parsed.runs)
        for line in left_out:
            print(f"left out: {line}", file=sys.stderr)
        page = write(found, parsed.out, parsed.accuracy)
    except ValueError as error:
        return commands.failure(error)
    print(f"The comparison is in {page}.")
    return 0


def write(
    found: Sequence[runs.SavedRun], folder: pathlib.Path, accuracy: float | None = None
) -> pathlib.Path:
    """Writes the pictures and the page, and returns the path of the page.

    Args:
        found: The runs.
        folder: The folder; it is made if it does not exist.
        accuracy: Validation accuracy for "time to" and "steps to". None: the highest accuracy that
            all runs have reached, rounded down to a percent.

    Raises:
        ValueError: With one sentence, if the folder cannot be written or matplotlib is missing.
    """
    commands.require("matplotlib", extra="plots")
    from keras_elu.report import charts, page

    groups = runs.grouped(found)
    accuracy = runs.common_accuracy(groups) if accuracy is None else accuracy
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = {}
        for metric in runs.metrics(groups):
            stem = metric.replace("/", "-")  # so that no name leads out of the folder
            names = {"light": f"{stem}.png", "dark": f"{stem}-dark.png"}
            pictures[metric] = {theme: folder / name for theme, name in names.items()}
            for theme, path in pictures[metric].items():
                charts.draw(metric, groups, path, theme)
        with files.aside(folder / "index.html") as path:
            path.write_text(page.write(groups, pictures, accuracy), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {folder} cannot be written ({error.strerror}).") from error
    return folder / "index.html"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.report", __doc__)
    parser.add_argument("runs", nargs="+", type=files.path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        type=files.path,
        default=pathlib.Path("report"),
        metavar="FOLDER",
        help="folder for the page and its pictures (default: report)",
    )
    parser.add_argument(
        "--accuracy",
        type=_fraction,
        metavar="FRACTION",
        help="validation accuracy, such as 0.97, for the time and steps to reach it (default: the "
        "highest that all runs have reached)",
    )
    return parser.parse_args(arguments)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 1, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
