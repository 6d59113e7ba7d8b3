"""What there is to prepare: the images of a folder or of tars, of which nothing is extracted."""

import functools
import hashlib
import os
import pathlib
import re
import stat
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

IMAGENET = "imagenet2012"
FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
SUFFIXES = (".jpeg", ".jpg", ".png")
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")

Found = dict[str, list[tuple[str, str, int, int]]]  # by class: (name, path, offset, size)


class Image(NamedTuple):
    """An encoded image: `size` bytes of the file `path`, from `offset` on."""

    path: str
    offset: int
    size: int
    label: int
    name: str

    def read(self) -> bytes:
        """Returns the encoded image.

        Example:

        >>> _ = pathlib.Path("file").write_bytes(b"some bytes")
        >>> Image("file", offset=5, size=5, label=0, name="a.jpg").read()
        b'bytes'
        """
        if not self.size:  # it may be no file at all, and never let go who opens it
            return b""
        with pathlib.Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Split(NamedTuple):
    """The images of a split, in the order in which they are written, and where they are from."""

    origin: pathlib.Path
    images: list[Image]
    classes: dict[str, int]  # images by class


class Source(NamedTuple):
    """All that a folder holds.

    `labels` are the names of the classes, in the order of their numbers; `digest` is another
    where names, classes or sizes of images are others.
    """

    labels: tuple[str, ...]
    splits: dict[str, Split]
    digest: str


def find(folder: pathlib.Path, name: str) -> Source:
    """Finds the images of a data set.

    The order of the images in a split is pseudo-random, and a function of their names and classes:
    tars and folders of the same images give the same.

    Args:
        folder: A folder with the original tars of ImageNet, or with the folders `train`, `val` or
            `validation`, and `test`, which hold a folder a class; of ImageNet's, the validation
            images may lie side by side.
        name: `imagenet2012`, whose labels are those of TFDS; another set's are its classes, sorted.

    Raises:
        ValueError: If there are no images, or their classes are not known.
        OSError: If the folder cannot be read.

    Example:

    >>> folder = pathlib.Path("source/train/ape")
    >>> folder.mkdir(parents=True)
    >>> _ = (folder / "1.jpg").write_bytes(b"an image")
    >>> find(pathlib.Path("source"), "my_set").splits["train"].classes
    {'ape': 1}
    """
    found, origins = {}, {}
    for split in FOLDERS if name != IMAGENET else TARS:
        origin = _origin(folder, split, name)
        if origin:
            origins[split], found[split] = origin, _images(origin, split, name)
    if not any(images for classes in found.values() for images in classes.values()):
        wanted = "train/CLASS/*.JPEG and val/CLASS/*.JPEG"
        if name == IMAGENET:
            wanted = f"{TARS['train']} and {TARS['validation']}, or {wanted}"
        raise ValueError(f"{folder} holds no images: it must hold {wanted}.")
    labels = _labels(found, origins, name)
    numbers = {label: number for number, label in enumerate(labels)}
    digest, splits = hashlib.blake2b(digest_size=16), {}
    for split, classes in found.items():
        keyed = []
        for label, images in classes.items():
            for file_name, *place in images:
                file_name = os.fsencode(file_name).decode(errors="replace")
                key = hashlib.blake2b(f"{label}/{file_name}".encode(), digest_size=8).digest()
                keyed.append((key, Image(*place, numbers[label], file_name)))
        keyed.sort(key=lambda item: (item[0], item[1].label, item[1].name))
        for key, image in keyed:
            digest.update(b"%b %b %d\n" % (split.encode(), key, image.size))
        counts = {label: len(images) for label, images in sorted(classes.items())}
        splits[split] = Split(origins[split], [image for _, image in keyed], counts)
    return Source(labels, splits, digest.hexdigest())


def _origin(folder: pathlib.Path, split: str, name: str) -> pathlib.Path | None:
    """The tar or the folder of a split; the tar where there are both, as it is surely whole."""
    if name == IMAGENET and (folder / TARS[split]).is_file():
        return folder / TARS[split]
    folders = [folder / name for name in FOLDERS[split] if (folder / name).is_dir()]
    if len(folders) > 1:
        raise ValueError(f"There are both {folders[0]} and {folders[1]}: leave one of them.")
    return folders[0] if folders else None


def _images(origin: pathlib.Path, split: str, name: str) -> Found:
    if origin.is_dir():
        with os.scandir(origin) as entries:
            folders = [e for e in entries if e.is_dir() and not e.name.startswith(".")]
        flat = list(_files(origin))
        if flat and folders:
            raise ValueError(
                f"{origin} holds both images and folders: move {flat[0][0]} to where it belongs."
            )
        if flat and split == "validation" and name == IMAGENET:
            return _by_number(origin, flat)
        if not folders:
            raise ValueError(f"{origin} holds no folders: it must hold one for each class.")
        return {folder.name: list(_files(folder.path)) for folder in folders}
    if split == "validation":
        return _by_number(origin, _members(origin))
    classes = {}
    for file_name, _, start, size in _members(origin, (".tar",)):
        members = _members(origin, SUFFIXES, start, start + size)
        classes[file_name.removesuffix(".tar")] = list(members)
    return classes


def _files(folder: str | os.PathLike) -> Iterator[tuple[str, str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # a link to nowhere
                    yield entry.name, entry.path, 0, 0
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                    yield entry.name, entry.path, 0, size


def _members(
    path: pathlib.Path,
    suffixes: tuple[str, ...] = SUFFIXES,
    start: int = 0,
    end: int | None = None,
) -> list[tuple[str, str, int, int]]:
    """The files of the tar that lies from `start` to `end` in a file, by its headers alone."""
    end = path.stat().st_size if end is None else end
    found = {}  # of two members of one name the last counts, as when they are extracted
    try:
        if start == end:
            return []
        with path.open("rb") as file:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.offset >= end:  # that of the tar around it: the end is not marked
                        return list(found.values())
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError(f"{member.name} is not whole")
                    name = member.name.rpartition("/")[2]
                    if member.isfile() and name.lower().endswith(suffixes):
                        found[name] = name, str(path), member.offset_data, member.size
                file.seek(tar.offset)
                if any(file.read(tarfile.BLOCKSIZE)):  # tarfile takes it for the end
                    raise tarfile.ReadError(f"there is no header at byte {tar.offset}")
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again.") from None
    return list(found.values())


def _by_number(origin: pathlib.Path, images: list[tuple[str, str, int, int]]) -> Found:
    """ImageNet's validation images, whose names hold their places in a list of labels."""
    labels = _lines("validation_labels.txt")
    classes = {}
    for image in images:
        numbered = _NUMBERED.fullmatch(image[0])
        if not numbered or not 1 <= int(numbered[1]) <= len(labels):
            raise ValueError(
                f"{origin} holds {image[0]}, whose label is not known: its name must be "
                "ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG, or it must lie in a "
                "folder of its class."
            )
        classes.setdefault(labels[int(numbered[1]) - 1], []).append(image)
    return classes


def _labels(
    found: dict[str, Found], origins: dict[str, pathlib.Path], name: str
) -> tuple[str, ...]:
    first = next(iter(found))
    labels = _lines("labels.txt") if name == IMAGENET else tuple(sorted(found[first]))
    of = (
        f"the 1,000 of {name}, as {labels[0]}" if name == IMAGENET else f"those of {origins[first]}"
    )
    for split, classes in found.items():
        for label in classes:
            if not label.isprintable() or label != label.strip():
                raise ValueError(f"{label!r} in {origins[split]} cannot be the name of a class.")
            if label not in labels:
                raise ValueError(
                    f"{label} in {origins[split]} is not a known class: the classes are {of}."
                )
    return labels


@functools.cache
def _lines(file: str) -> tuple[str, ...]:
    import tensorflow_datasets as tfds

    return tuple(tfds.core.tfds_path(f"datasets/imagenet2012/{file}").read_text().split())
