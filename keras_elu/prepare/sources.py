"""The pictures of a folder or of tar archives, found without extracting anything."""

import hashlib
import pathlib
from typing import NamedTuple

from keras_elu.prepare import archives, search


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
        if not self.size:  # possibly a pipe, which would block
            return b""
        with pathlib.Path(self.path).open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Split(NamedTuple):
    """The images of a split, in the order in which they are written, and where they come from."""

    origin: pathlib.Path
    images: list[Image]
    classes: dict[str, int]  # images by class


class Source(NamedTuple):
    """The content of a folder.

    Attributes:
        labels: The names of the classes, in the order of their numbers.
        splits: The images, by split.
        digest: Changes with the names, classes and sizes of the images.
        left_out: Names of pictures that are not used, and why.
        ignored: Names of other files and folders that are not used, and why.
    """

    labels: tuple[str, ...]
    splits: dict[str, Split]
    digest: str
    left_out: list[tuple[str, str]]
    ignored: list[tuple[str, str]]


def find(folder: pathlib.Path, name: str) -> Source:
    """Finds the images of a data set.

    A split is a folder `train`, `val` (or `valid`, `validation`) or `test`, in any case, in
    `folder` or a few folders below it. It holds a folder for each class, and all pictures below
    that belong to the class; or pictures, and a table of labels. Without splits, folders of classes
    are training images. What cannot be used is listed in the result.

    The order of the images in a split is pseudo-random, and a function of their names and classes:
    tars and folders of the same images give the same order.

    Args:
        folder: A folder with the original tars of ImageNet, or with folders of images.
        name: `imagenet2012`, with the labels of TFDS and validation images whose names tell their
            classes; or another name, with classes in sorted order.

    Raises:
        ValueError: If there are no images, or a class is unknown.
        OSError: If a folder cannot be read.

    Example:

    >>> folder = pathlib.Path("source/train/ape")
    >>> folder.mkdir(parents=True)
    >>> _ = (folder / "1.jpg").write_bytes(b"an image")
    >>> find(pathlib.Path("source"), "my_set").splits["train"].classes
    {'ape': 1}
    """
    found_by = search.Search(folder, name)
    found_by.run()
    found, origins = found_by.found, found_by.origins
    if not any(images for classes in found.values() for images in classes.values()):
        wanted = "train/CLASS/*.JPEG and val/CLASS/*.JPEG"
        if name == archives.IMAGENET:
            wanted = f"{archives.TARS['train']} and {archives.TARS['validation']}, or {wanted}"
        raise ValueError(f"{folder} holds no images: it must hold {wanted}.")
    labels = _labels(found, origins, name)
    numbers = {label: number for number, label in enumerate(labels)}
    digest, splits = hashlib.blake2b(digest_size=16), {}
    for split, classes in found.items():
        keyed = []
        for label, images in classes.items():
            for file_name, *place in images:
                file_name = search.text(file_name)
                key = hashlib.blake2b(f"{label}/{file_name}".encode(), digest_size=8).digest()
                keyed.append((key, Image(*place, numbers[label], file_name)))
        keyed.sort(key=lambda item: (item[0], item[1].label, item[1].name))
        for key, image in keyed:
            digest.update(b"%b %b %d\n" % (split.encode(), key, image.size))
        counts = {label: len(images) for label, images in sorted(classes.items())}
        splits[split] = Split(origins[split], [image for _, image in keyed], counts)
    return Source(labels, splits, digest.hexdigest(), found_by.left_out, found_by.ignored)


def check(source: Source, folder: pathlib.Path) -> None:
    """Checks that a model can be trained and evaluated on a source.

    Raises:
        ValueError: With one sentence, if it cannot.
    """
    with_images = {split for split, of in source.splits.items() if of.images}
    if "train" not in with_images:
        raise ValueError(f"{folder} holds no training images: put them into {folder}/train/CLASS.")
    if len(source.labels) < 2:
        raise ValueError(
            f"{source.splits['train'].origin} holds a single class, {source.labels[0]}, and a "
            "classifier needs two: if its folders are the classes, name that folder as SOURCE."
        )
    if len(with_images) == 1:
        raise ValueError(
            f"{folder} holds no images to evaluate on, neither in val/CLASS nor in test/CLASS: "
            "--validation_examples N holds out N of the training images."
        )


def hold_out(source: Source, count: int) -> Source:
    """Moves the last `count` training images, which are in pseudo-random order, to validation.

    Raises:
        ValueError: If there is a validation split, or nothing would be left to train on.
    """
    if source.splits.get("validation", Split(pathlib.Path(), [], {})).images:
        raise ValueError(
            "--validation_examples holds out training images, but SOURCE has validation images in "
            f"{source.splits['validation'].origin}: leave it out."
        )
    whole = source.splits.get("train", Split(pathlib.Path(), [], {}))
    if count >= len(whole.images):
        raise ValueError(
            f"--validation_examples is {count:,}, but SOURCE has {len(whole.images):,} training "
            "images: hold out fewer."
        )

    def part(images: list[Image]) -> Split:
        classes = dict.fromkeys(whole.classes, 0)
        for image in images:
            classes[source.labels[image.label]] += 1
        return Split(whole.origin, images, {label: n for label, n in classes.items() if n})

    held = {"train": part(whole.images[:-count]), "validation": part(whole.images[-count:])}
    return source._replace(
        splits={**held, **{k: v for k, v in source.splits.items() if k == "test"}}
    )


def _labels(
    found: dict[str, archives.Found], origins: dict[str, pathlib.Path], name: str
) -> tuple[str, ...]:
    first = next(iter(found))
    is_imagenet = name == archives.IMAGENET
    labels = archives.lines("labels.txt") if is_imagenet else tuple(sorted(found[first]))
    known = f"those of {origins[first]}"
    if is_imagenet:
        known = f"the 1,000 of {name}, such as {labels[0]}; for another data set, use --name"
    for split, classes in found.items():
        for label in classes:
            if not label.isprintable() or label != label.strip():
                raise ValueError(f"{label!r} in {origins[split]} cannot be the name of a class.")
            if label not in labels:
                raise ValueError(
                    f"{label} in {origins[split]} is not a known class: the classes are {known}."
                )
    return labels
