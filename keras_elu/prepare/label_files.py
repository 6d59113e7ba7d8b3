"""Labels in a file next to the pictures: tiny-ImageNet's, Kaggle's, Roboflow's, and the like."""

import csv
import pathlib
import unicodedata
from collections.abc import Collection

_SUFFIXES = (".csv", ".tsv", ".txt")
_LARGEST = 2**28  # bytes
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "breed", "target")
_BOXES = "predictionstring"  # Kaggle's ImageNet: the class, and where it is


def read(
    folder: pathlib.Path, split_names: tuple[str, ...], pictures: Collection[str]
) -> tuple[pathlib.Path, dict[str, str]] | None:
    """Finds the file that labels the pictures of a folder.

    It lies in the folder or next to it, in the latter case named after the split or `labels`. It
    is a table with a column of file names, with or without their suffix, and a column of classes,
    or a column of zeros and ones for each class.

    Args:
        folder: The folder of a split.
        split_names: What people call the split.
        pictures: File names without folders.

    Returns:
        The file, and the classes of the pictures that it labels; None if there is no such file.
    """
    next_to_it = [
        path
        for path in _tables(folder.parent)
        if path.stem.casefold() == "labels" or any(n in path.stem.casefold() for n in split_names)
    ]
    for path in [*_tables(folder), *next_to_it]:
        labels = _labels(path, pictures)
        if labels:
            return path, labels
    return None


def _tables(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _labels(path: pathlib.Path, pictures: Collection[str]) -> dict[str, str]:
    if path.stat().st_size > _LARGEST:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return {}
    if not lines:
        return {}
    delimiter = next((d for d in "\t,; " if d in lines[0]), ",")
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if len(row) > 1]
    by_key = {unicodedata.normalize("NFC", picture): picture for picture in pictures}
    by_key |= {key.rpartition(".")[0]: picture for key, picture in by_key.items() if "." in key}

    def picture(value: str) -> str | None:
        value = value.strip().replace("\\", "/").rpartition("/")[2]
        return by_key.get(unicodedata.normalize("NFC", value))

    width = min(map(len, rows), default=0)
    column = max(range(width), key=lambda i: sum(bool(picture(r[i])) for r in rows), default=None)
    if column is None or not any(picture(row[column]) for row in rows):
        return {}
    header = None if picture(rows[0][column]) else [name.strip() for name in rows[0]]
    found = {picture(row[column]): row for row in rows if picture(row[column])}
    return _classes(found, header, column, width)


def _classes(
    found: dict[str, list[str]], header: list[str] | None, column: int, width: int
) -> dict[str, str]:
    """The class of each picture, from its row."""
    others = [i for i in range(width) if i != column]
    names = [name.casefold() for name in header or []]
    named = [i for i in others if header and names[i] in (*_LABEL_COLUMNS, _BOXES)]
    if named or len(others) == 1 or not header:
        label = named[0] if named else min((i for i in others if i > column), default=others[0])
        only_first = bool(header) and names[label] == _BOXES
        values = {picture: row[label].strip() for picture, row in found.items()}
        return {p: v.split()[0] if only_first else v for p, v in values.items() if v}
    classes = {}
    for picture, row in found.items():
        ones = [i for i in others if row[i].strip() in ("1", "1.0")]
        if len(ones) != 1 or any(row[i].strip() not in ("0", "1", "0.0", "1.0") for i in others):
            return {}
        classes[picture] = header[ones[0]]
    return classes
