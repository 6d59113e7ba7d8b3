"""Labels in a file next to the pictures: tiny-ImageNet's, Kaggle's, Roboflow's, and the like."""

import collections
import csv
import pathlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

_SUFFIXES = (".csv", ".tsv", ".txt")
_LARGEST = 2**28  # bytes
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "breed", "target")
_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|gif|tiff?|webp)$", re.IGNORECASE)
Find = Callable[[str], str | None]  # the picture that a value of a table names
_BOXES = "predictionstring"  # Kaggle's ImageNet: the class, and where it is


class Table(NamedTuple):
    """The labels in a file: the class of a picture, or why it has none."""

    path: pathlib.Path
    labels: dict[str, str]
    unclear: dict[str, str]


def read(
    folders: Sequence[pathlib.Path], split_names: tuple[str, ...], pictures: Collection[str]
) -> Table | None:
    """Finds the file that labels the pictures of a folder.

    It lies in the folder or next to it, in the latter case named after the split or `labels`. It
    is a table with a column of file names, with or without their suffix, and a column of classes,
    or a column of zeros and ones for each class. A picture with several classes has no label.

    Args:
        folders: The folder of a split and, if that belongs to the data set, the one around it.
        split_names: What people call the split.
        pictures: Paths of the pictures, as 1.jpg or folder/1.jpg.

    Returns:
        The labels; None if there is no such file.
    """
    folder, *around = folders
    next_to_it = [
        path
        for path in (path for parent in around for path in _tables(parent))
        if path.stem.casefold() == "labels" or any(n in path.stem.casefold() for n in split_names)
    ]
    for path in [*_tables(folder), *next_to_it]:
        classes = _classes_of(path, _finder(pictures, by_name=True))
        labels = {picture: next(iter(of)) for picture, of in classes.items() if len(of) == 1}
        if labels:
            unclear = {
                picture: f"it has the classes {' and '.join(sorted(of))} in {path.name}"
                if of
                else f"{path.name} gives it no class"
                for picture, of in classes.items()
                if len(of) != 1
            }
            return Table(path, labels, unclear)
    return None


def by_path(
    folders: Collection[pathlib.Path], pictures: Collection[str], foreign: Collection[str]
) -> Iterator[tuple[pathlib.Path, dict[str, set[str]]]]:
    """Finds the files that name pictures in folders of classes, by their paths.

    Args:
        folders: Where the files lie.
        pictures: Paths of the pictures, as class/1.jpg.
        foreign: Folders of other splits: test/class/1.jpg is another picture.

    Yields:
        A file and the classes that it gives each picture it names, which may be none.
    """
    for path in (path for folder in folders for path in _tables(folder)):
        if classes := _classes_of(path, _finder(pictures, foreign)):
            yield path, classes


def _tables(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _finder(
    pictures: Collection[str], foreign: Collection[str] = (), by_name: bool = False
) -> Find:
    """Finds a picture by a path that ends with its own; or by its name, if no other has it."""
    known = {}
    if by_name:
        names = [picture.rpartition("/")[2] for picture in pictures]
        count = collections.Counter(names)
        of_name = {n: p for n, p in zip(names, pictures, strict=True) if count[n] == 1}
        known = _with_stems(of_name)
    known |= _with_stems({picture: picture for picture in pictures})

    def find(value: str) -> str | None:
        parts = _parts(value)
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            # Windows takes 1.jpg for 1.JPG, and so do tables that come from there.
            found = known.get(end) or known.get(_SUFFIX.sub("", end))
            if found:
                return None if start and parts[start - 1].casefold() in foreign else found
        return None

    return find


def _with_stems(pictures: Mapping[str, str]) -> dict[str, str]:
    by_key = {unicodedata.normalize("NFC", key): picture for key, picture in pictures.items()}
    return by_key | {k.rpartition(".")[0]: picture for k, picture in by_key.items() if "." in k}


def _parts(value: str) -> list[str]:
    return unicodedata.normalize("NFC", value.strip().replace("\\", "/")).split("/")


def _classes_of(path: pathlib.Path, picture: Find) -> dict[str, set[str]]:
    """The classes of each picture that a file names."""
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
    if not rows:
        return {}
    if len(rows) > 1 and all(len(row) == len(rows[0]) + 1 for row in rows[1:]):
        rows[0].insert(0, "")  # R writes no header above the names of rows
    width = len(rows[0])
    whole = [row for row in rows if len(row) >= width]
    if delimiter == " " and any(len(row) != width for row in rows):  # classes of several words
        return {}
    column = _column_of_pictures(whole, width, picture)
    if column is None:
        return {}
    header = None if picture(rows[0][column]) else [name.strip() for name in rows[0]]
    found = [(name, row) for row in whole if (name := picture(row[column]))]
    classes = {name: set() for row in rows if row[column:] and (name := picture(row[column]))}
    for (name, _), of_row in zip(found, _by_row(found, header, column, width), strict=True):
        classes[name].update(of_row)
    return classes


def _column_of_pictures(rows: list[list[str]], width: int, picture: Find) -> int | None:
    """The column that names pictures; None if there is none, or several that name different ones.

    Numbers of rows and classes may be names of pictures, too: 7 is the name of 7.jpg.
    """
    named = [[picture(row[i]) for row in rows] for i in range(width)]

    def certainty(i: int) -> tuple[int, int, int]:
        found = [(p, row[i]) for p, row in zip(named[i], rows, strict=True) if p]
        with_suffix = sum(bool(_SUFFIX.search(value.strip())) for _, value in found)
        return with_suffix, len(found), len({p for p, _ in found})

    certain = [certainty(i) for i in range(width)]
    first, *others = [i for i in range(width) if certain[i] == max(certain)]
    if not any(named[first]) or any(named[i] != named[first] for i in others):
        return None
    return first


def _by_row(
    found: list[tuple[str, list[str]]], header: list[str] | None, column: int, width: int
) -> list[set[str]]:
    """The classes in each row."""
    others = [i for i in range(width) if i != column]
    names = [name.casefold() for name in header or []]
    named = [i for i in others if header and names[i] in (*_LABEL_COLUMNS, _BOXES)]
    if named or len(others) == 1 or not header:
        label = named[0] if named else min((i for i in others if i > column), default=others[0])
        only_first = bool(header) and names[label] == _BOXES
        values = [row[label].strip() for _, row in found]
        return [{v.split()[0] if only_first else v} if v else set() for v in values]
    if any(row[i].strip() not in ("0", "1", "0.0", "1.0") for _, row in found for i in others):
        return [set()] * len(found)
    classes = [{header[i] for i in others if row[i].strip() in ("1", "1.0")} for _, row in found]
    single = sum(len(of) == 1 for of in classes)
    return classes if 2 * single >= len(classes) else [set()] * len(found)  # attributes, rather
