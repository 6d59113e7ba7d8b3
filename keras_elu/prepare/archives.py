"""The original archives of ImageNet: what their tars hold, and the labels of their images."""

import functools
import pathlib
import re
import tarfile

IMAGENET = "imagenet2012"
TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
_SUFFIXES = (".jpeg", ".jpg", ".png")
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")

Found = dict[str, list[tuple[str, str, int, int]]]  # by class: (name, path, offset, size)


def images(origin: pathlib.Path, split: str) -> Found:
    """The images of a tar of ImageNet."""
    if split == "validation":
        return by_number(origin, _members(origin))
    classes = {}
    for file_name, _, start, size in _members(origin, (".tar",)):
        members = _members(origin, _SUFFIXES, start, start + size)
        classes[file_name.removesuffix(".tar")] = list(members)
    return classes


def _members(
    path: pathlib.Path,
    suffixes: tuple[str, ...] = _SUFFIXES,
    start: int = 0,
    end: int | None = None,
) -> list[tuple[str, str, int, int]]:
    """The files of a tar at bytes `start` to `end` of a file, found by its headers alone."""
    end = path.stat().st_size if end is None else end
    found = {}  # the last of several members of one name counts, as when extracting
    try:
        if start == end:
            return []
        with path.open("rb") as file:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.offset >= end:  # the outer tar's: the inner end has no marker
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


def by_number(origin: pathlib.Path, images: list[tuple[str, str, int, int]]) -> Found:
    """ImageNet's validation images: the number in a name is the position in a list of labels."""
    labels = lines("validation_labels.txt")
    classes = {}
    for image in images:
        numbered = _NUMBERED.fullmatch(image[0].rpartition("/")[2])
        if not numbered or not 1 <= int(numbered[1]) <= len(labels):
            raise ValueError(
                f"{origin} holds {image[0]}, whose label is not known: its name must be "
                "ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG, or it must lie in a "
                "folder of its class."
            )
        classes.setdefault(labels[int(numbered[1]) - 1], []).append(image)
    return classes


@functools.cache
def lines(file: str) -> tuple[str, ...]:
    """Returns the words of a text file that comes with TFDS's imagenet2012."""
    import tensorflow_datasets as tfds

    return tuple(tfds.core.tfds_path(f"datasets/imagenet2012/{file}").read_text().split())
