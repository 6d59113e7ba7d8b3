"""Finds a data set by name, and prepares it where it is not prepared yet."""

import contextlib
import difflib
import functools
import logging
import math
import os
import pathlib
import re
import sys

import numpy as np
import tensorflow as tf

from keras_elu import files
from keras_elu.data import cifar, datasets, fetching, in_memory, streamed

HELD_OUT = {
    "digits": 200,
    "mnist": 10_000,
    "fashion_mnist": 10_000,
    "cifar10": 5_000,
    "cifar100": 5_000,
    "imagenette": 0,
    "imagenet2012": 0,
}
# How to train on a data set that is not prepared.
INSTRUCTIONS = {
    "mnist": "--dataset mnist downloads it (11 MB), --dataset mnist --manual_dir FOLDER takes its "
    "four archives from FOLDER.",
    **{
        name: f"--dataset {name} downloads it (170 MB), --dataset {name} --manual_dir FOLDER takes "
        "its archive or its binary files from FOLDER."
        for name in ("cifar10", "cifar100")
    },
    "imagenet2012": "python -m keras_elu.prepare SOURCE DATA_DIR, where SOURCE holds "
    "its archives,\nwhich https://image-net.org gives to registered users, or extracted folders; "
    "then --data_dir DATA_DIR.",
}
TEST_IS_VALIDATION = ("imagenet2012", "imagenette")  # imagenet2012's test split has no labels
NOT_MIRRORED = ("digits", "mnist", "kmnist", "emnist", "svhn_cropped")  # a mirrored 2 is no 2
_PROBED = 16  # images of a split whose labels are read first
MEMORY = 2**31  # bytes of images up to which a data set is held in memory
_LOCAL = re.compile(r"[a-z][a-z0-9_]*(:\d+\.\d+\.\d+)?")  # sets that may lie in data_dir


def names() -> tuple[str, ...]:
    """The names that `load` is tested with; TFDS knows more."""
    return (*HELD_OUT, "synthetic")


def is_prepared(name: str, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load(name, data_dir=data_dir)` needs neither a download nor archives nor time.

    Args:
        name: As for `load`.
        data_dir: As for `load`.

    Raises:
        ValueError: If no data set has this name.
    """
    if name == "synthetic":
        return True
    with _quiet():
        return _builder(name, data_dir).is_prepared()


def load(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
    validation_examples: int | None = None,
) -> datasets.Dataset:
    """Loads a data set, from where it is prepared, from archives, or by a download; in this order.

    Args:
        name: One of `names()`, any image-classification set of TFDS, as TFDS spells it
            (`"oxford_flowers102"`, `"imagenette/160px-v2"`), or one that is prepared in `data_dir`,
            as by `python -m keras_elu.prepare`.
        data_dir: The folder with prepared data sets; default: TFDS's own, `$TFDS_DATA_DIR` or
            `~/tensorflow_datasets`.
        manual_dir: A folder with the original archives, or for CIFAR with their extracted binary
            files, directly or in a folder named after the data set. Archives are prepared into
            `data_dir`; binary files are read where they are. With it, nothing is downloaded.
        validation_examples: How many images at the end of the training split, in the order in
            which they are stored, are held out for validation; default: see the package.

    Raises:
        NotFound: If the data set is not there, with the ways to get it; or if an archive or a
            folder cannot be used.
        ValueError: If the name is unknown, or `validation_examples` is not from 0 to less than the
            training split.
    """
    if validation_examples is None:
        validation_examples = HELD_OUT.get(name, 0)
    datasets.at_least("validation_examples", validation_examples, 0)
    if name == "synthetic":
        return in_memory.synthetic()
    with _quiet():
        builder = _builder(name, data_dir)
        _assert_classification(name, builder)
        root = pathlib.Path(builder.data_dir_root)
        if root == pathlib.Path(builder.data_dir):  # of a set that TFDS knows by its files alone
            root = root.parents[1]
        if not builder.is_prepared():
            _assert_not_misplaced(name, data_dir)
            manual = None if manual_dir is None else fetching.folder(manual_dir)
            binary = manual and cifar.find(name, manual)
            if binary:
                names = builder.info.features["label"].names
                return _from_binary(name, names, binary, root, validation_examples)
            if name == "digits":
                fetching.prepare(builder, root, None)
            elif manual:
                fetching.prepare(builder, root, fetching.archives(builder, manual))
            else:
                fetching.assert_reachable(builder, root)
                fetching.prepare(builder, root, None)
            builder = _builder(name, data_dir)
        return _from_tfds(name, builder, root, validation_examples)


@contextlib.contextmanager
def _quiet():
    """Silences the warnings that TFDS logs about every data set that is not prepared."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _builder(name: str, data_dir: str | os.PathLike | None):
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = fetching.path("data_dir", data_dir)
        if data_dir.exists() and not data_dir.is_dir():
            raise fetching.NotFound(
                f"data_dir {data_dir} is not a folder; name one that is, or a new one."
            )
    if name == "digits":
        from keras_elu.data import digits

        make = digits.Digits
    else:
        known = tfds.list_builders(with_community_datasets=False)
        registered = isinstance(name, str) and name.partition("/")[0].partition(":")[0] in known
        if not registered and not (isinstance(name, str) and _LOCAL.fullmatch(name)):
            raise _unknown(name, known)
        make = functools.partial(tfds.builder, name)
    try:
        return make(data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        pass
    except Exception as error:  # its name and what is prepared are TFDS's to judge, in many ways
        where = "" if data_dir is None else f" in {data_dir}"
        raise ValueError(f"TFDS refuses {name!r}{where}: {fetching.sentence(error)}") from None
    _assert_not_misplaced(name, data_dir)
    raise _unknown(name, known)


def _unknown(name, known: list[str]) -> ValueError:
    close = difflib.get_close_matches(str(name), [*names(), *known], n=1)
    return ValueError(
        f"There is no data set {name!r}"
        + (f" (did you mean {close[0]!r}?)" if close else "")
        + f"; use one of {', '.join(names())}, any image-classification set of TFDS, or one that "
        "is prepared in data_dir."
    )


def _assert_not_misplaced(name: str, data_dir: pathlib.Path | None) -> None:
    """Raises `NotFound` if `data_dir` lies within a prepared set, or the set is unfinished."""
    if data_dir is None:
        return
    folder = fetching.path("data_dir", data_dir).absolute()
    base, _, _ = name.partition("/")[0].partition(":")
    for pattern in ("", "*/", "*/*/"):
        for info in folder.glob(f"{pattern}dataset_info.json"):
            own = _json(info).get("name")
            home = next((parent.parent for parent in info.parents if parent.name == own), folder)
            if home in folder.parents:
                raise fetching.NotFound(
                    f"data_dir {data_dir} lies within the prepared data set {own}: name the folder "
                    f"that holds data sets, {home}."
                )
            break
    for unfinished in sorted((folder / base).glob("unfinished-*")):
        raise fetching.NotFound(
            f"{name} is unfinished in {unfinished}: run the same command of python -m "
            "keras_elu.prepare again, to resume it."
        )
    for unfinished in sorted((folder / base).glob("**/*.incomplete*")):
        raise fetching.NotFound(
            f"{name} is unfinished in {unfinished}: TFDS was interrupted; remove that folder, so "
            "that it is prepared again."
        )


def _json(path: pathlib.Path) -> dict:
    try:
        return files.read_object(path)
    except ValueError:
        return {}


def _assert_classification(name: str, builder) -> None:
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    image, label = (features.get(key) for key in ("image", "label"))
    pixels = isinstance(image, tfds.features.Tensor) and image.np_dtype == np.uint8
    is_image = isinstance(image, tfds.features.Image) or (pixels and len(image.shape) == 3)
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            f"{name} is not an image-classification set; it has no image with a label."
        )
    if label.num_classes is None:
        raise ValueError(f"{name} does not say how many classes it has; use another set.")
    if label.num_classes < 2:
        raise ValueError(f"{name} has a single class, and a classifier needs two; use another set.")
    if image.np_dtype != np.uint8:
        raise ValueError(
            f"The images of {name} are {np.dtype(image.np_dtype).name}; only images of 8 bits a "
            "channel, uint8, can be used."
        )
    channels = image.shape[-1]
    if isinstance(image, tfds.features.Image) and channels not in (1, 3, 4):
        raise ValueError(
            f"The images of {name} have {channels or 'varying numbers of'} channels, which TFDS "
            "itself cannot decode; only images with 1, 3 or 4 channels can be used."
        )


def _from_binary(name, class_names, folder, root, validation_examples) -> datasets.Dataset:
    try:
        arrays = cifar.read(name, folder)
    except ValueError as error:
        raise fetching.NotFound(str(error)) from None
    return _in_memory(name, class_names, arrays, root, validation_examples)


def _from_tfds(name, builder, root, validation_examples) -> datasets.Dataset:
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    image, label = (builder.info.features[key] for key in ("image", "label"))
    file_format = builder.info.file_format
    if file_format and file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"{name} is stored as {file_format.name}, and only TFRECORD can be read: run tfds "
            f"convert_format --dataset_dir={builder.data_dir} --out_file_format=tfrecord."
        )
    if "train" not in splits or not splits["train"].num_examples:
        raise ValueError(f"{name} has no split to train on.")
    splits = _labelled(name, builder)
    test = "test" if "test" in splits and builder.name not in TEST_IS_VALIDATION else "validation"
    if test not in splits and not validation_examples:
        raise ValueError(
            f"{name} has no split to test on: hold out some of the training images, with "
            "--validation_examples."
        )
    used = {"train": "train"}
    if test in splits:
        used |= {"validation": "validation" if "validation" in splits else test, "test": test}
    count = sum(splits[split].num_examples for split in set(used.values()))
    if None not in image.shape and count * math.prod(image.shape) <= MEMORY:
        arrays = {split: _arrays(builder, split) for split in set(used.values())}
        arrays = {split: arrays[of] for split, of in used.items()}
        return _in_memory(name, label.names, arrays, root, validation_examples)
    if not isinstance(image, tfds.features.Image) and None not in image.shape:
        raise ValueError(
            f"{name} is too large for memory, and its pixels are not stored as images; "
            "only images, and pixels written by python -m keras_elu.prepare, can be streamed."
        )
    kept = _kept(name, splits["train"].num_examples, validation_examples)
    if validation_examples:
        held_out = f"train[{kept}:]"
        used = {"test": held_out} | used | {"train": f"train[:{kept}]", "validation": held_out}
    return streamed.Streamed(name, builder, used, mirror=builder.name not in NOT_MIRRORED)


def _labelled(name: str, builder) -> dict:
    """Returns the splits to use, without those that have no labels, which it names."""
    splits = {
        split: info
        for split, info in builder.info.splits.items()
        if split in datasets.SPLITS and info.num_examples
    }
    for split in list(splits):
        if split == "test" and builder.name in TEST_IS_VALIDATION:
            continue
        if not _has_labels(builder, split):
            if split == "train":
                raise ValueError(f"The training images of {name} have no labels: use another set.")
            del splits[split]
            print(f"{name}: {split} has no labels and is not used.", file=sys.stderr, flush=True)
    return splits


def _has_labels(builder, split: str) -> bool:
    """Whether any of the first images of a split has a label; -1 means none."""
    import tensorflow_datasets as tfds

    encoded = isinstance(builder.info.features["image"], tfds.features.Image)
    decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
    with _damage_named(builder):
        examples = builder.as_dataset(split=split, decoders=decoders).take(_PROBED)
        return any(example["label"] >= 0 for example in tfds.as_numpy(examples))


@contextlib.contextmanager
def _damage_named(builder):
    """Turns an error of reading a set into `NotFound`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise fetching.NotFound(
            f"{builder.name} in {builder.data_dir} is damaged ({type(error).__name__}); remove "
            "that folder, so that it is prepared again."
        ) from None


def _arrays(builder, split: str) -> datasets.Arrays:
    """All of a split, in the order of the original files where TFDS has kept it as an id."""
    import tensorflow_datasets as tfds

    with _damage_named(builder):
        examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    images, labels = examples["image"], examples["label"]
    if "id" in examples:
        order = np.argsort(examples["id"], kind="stable")
        images, labels = images[order], labels[order]
    wrong = np.flatnonzero((labels < 0) | (labels >= builder.info.features["label"].num_classes))
    if wrong.size:
        raise ValueError(
            f"{wrong.size:,} of {len(labels):,} images of {builder.name}, in {split}, have no "
            f"label, such as number {wrong[0]}: prepare it without them."
        )
    return images, labels


def _in_memory(name, class_names, arrays, root, validation_examples) -> datasets.Dataset:
    images, labels = arrays["train"]
    kept = _kept(name, len(labels), validation_examples)
    splits = {**arrays, "train": (images[:kept], labels[:kept])}
    if validation_examples:
        splits["validation"] = images[kept:], labels[kept:]
    splits.setdefault("test", splits.get("validation"))
    splits.setdefault("validation", splits["test"])
    base = name.partition("/")[0]
    return in_memory.InMemory(
        name, class_names, splits, mirror=base not in NOT_MIRRORED, cache_dir=root / base
    )


def _kept(name: str, examples: int, validation_examples: int) -> int:
    if validation_examples >= examples:
        raise ValueError(
            f"validation_examples is {validation_examples}, but {name} has {examples} training "
            f"images; hold out fewer."
        )
    return examples - validation_examples
