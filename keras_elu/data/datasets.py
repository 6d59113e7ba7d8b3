"""Data sets as pipelines: what all share, and those that are held in memory."""

import abc
import dataclasses
import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_elu.data.mixing import Mixing

SPLITS = ("train", "validation", "test")
PREPROCESSING = ("none", "scale", "whiten")
AUGMENTATIONS = ("none", "crop", "resized_crop", "trivial", "mirror", "alternate")
READ_AHEAD = 2  # batches
_SHOWN = 5  # names of classes in a message
Arrays = tuple[np.ndarray, np.ndarray]


class ByWorker(tf.data.Dataset):
    """Global batches of which each of several workers can make its own rows only.

    Every transformation but `skip` and `take` returns a plain `tf.data.Dataset`, since its function
    may mix the rows of a batch: each worker then makes whole batches and uses its part of them.

    Args:
        whole: The global batches.
        of_worker: Takes the number of a worker and the number of workers, and returns pairs: how
            many rows of a batch are the worker's, and those rows; where there are none, one
            placeholder row.
    """

    def __init__(self, whole: tf.data.Dataset, of_worker: Callable[[int, int], tf.data.Dataset]):
        self._whole, self.of_worker = whole, of_worker
        super().__init__(whole._variant_tensor)

    @property
    def element_spec(self):
        return self._whole.element_spec

    def _inputs(self):
        return [self._whole]

    def skip(self, count, name=None):
        return self._each(lambda dataset: dataset.skip(count, name))

    def take(self, count, name=None):
        return self._each(lambda dataset: dataset.take(count, name))

    def _each(self, transformed: Callable[[tf.data.Dataset], tf.data.Dataset]) -> "ByWorker":
        return ByWorker(
            transformed(self._whole), lambda *worker: transformed(self.of_worker(*worker))
        )


class Dataset(abc.ABC):
    """A data set: its facts, and its pipelines, which the package's docstring describes.

    Attributes:
        name: As it was asked for.
        class_names: The name of each class, in the order of the labels.
        image_shape: (height, width, channels); height and width are None where they vary.
        examples: Number of images by split: train, validation, test.
        held_out: Whether its validation images differ from its test images.
        crop: Side of the square in the centre of a picture that is evaluated, as a fraction of the
            shorter side. None: the whole picture is.
        failure: Why its pipelines have failed; None if they have not.
    """

    held_out = True
    crop: float | None = None
    failure: str | None = None
    _places: list[int] | None = None  # of the classes among those of a model
    divides = False  # whether the pipelines of a worker make its own rows alone

    def __init__(
        self,
        name: str,
        class_names: Sequence[str],
        image_shape: tuple[int | None, ...],
        examples: dict[str, int],
    ):
        self.name = name
        self.class_names = tuple(class_names)
        self.image_shape = image_shape
        self.examples = examples

    def __repr__(self) -> str:
        sizes = ", ".join(f"{count:,} {split}" for split, count in self.examples.items())
        return f"<{self.name}: {self.classes} classes, images {self.image_shape}, {sizes}>"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def describe(self, image_size: int | None = None) -> dict[str, Any]:
        """Returns what a `keras_elu.models.Classifier` keeps: class names, image size and crop."""
        size = self._size(image_size)
        return {"class_names": self.class_names, "image_size": size, "crop": self.crop}

    def relabel(self, class_names: Sequence[str]) -> None:
        """Changes the labels to those of a model, matching classes by their names.

        Args:
            class_names: The model's classes, of which the data set may lack some.

        Raises:
            ValueError: If the data set has a class that the model lacks.
        """
        known, own = map(_normal, class_names), list(map(_normal, self.class_names))
        places = {name: place for place, name in enumerate(known)}
        if absent := [name for name in own if name not in places]:
            raise ValueError(
                f"The model has {len(class_names)} classes, {_listed(class_names)}, and "
                f"{self.name} has {self.classes}, of which the model lacks {_listed(absent)}: use "
                "a set with classes of the model."
            )
        places = [places[name] for name in own]
        self._places = None if places == list(range(len(class_names))) else places
        self.class_names = tuple(class_names)

    def _labels(self, images, labels):
        return images, labels if self._places is None else tf.gather(self._places, labels)

    def _size(self, image_size: int | None) -> tuple[int, int]:
        return self.image_shape[:2] if image_size is None else (image_size, image_size)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of whole batches in the training split.

        Raises:
            ValueError: If there is not one.
        """
        at_least("batch_size", batch_size, 1)
        if batch_size > self.examples["train"]:
            raise ValueError(
                f"batch_size is {batch_size}, but {self.name} has only {self.examples['train']} "
                f"training images; use a batch_size of at most that."
            )
        return self.examples["train"] // batch_size

    def training(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        augment: str = "crop",
        erasing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        image_size: int | Mapping[int, int] | None = None,
        preprocess: str = "scale",
        one_hot: bool = False,
        start_step: int = 0,
    ) -> tf.data.Dataset:
        """Endless batches of the training split; a pure function of `seed` and the step."""
        steps = self.steps_per_epoch(batch_size)
        sizes = dict(image_size) if isinstance(image_size, Mapping) else {0: image_size}
        if 0 not in sizes or list(sizes) != sorted(sizes):
            raise ValueError(
                f"image_size has sizes from the steps {list(sizes)} on; begin with 0, in order."
            )
        for size in sizes.values():
            self._check(size, preprocess)
        one_of("augment", augment, AUGMENTATIONS)
        at_least("start_step", start_step, 0)
        if not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}; it must be an integer.")
        for name, value in {"erasing": erasing, "mixup": mixup, "cutmix": cutmix}.items():
            if not 0 <= value <= (1 if name == "erasing" else 100):
                most = "1" if name == "erasing" else "100"
                raise ValueError(f"{name} is {value!r}; it must be a number from 0 to {most}.")
        mixing = Mixing(mixup, cutmix)
        if mixing and not one_hot:
            raise ValueError("mixup and cutmix mix labels: use one_hot=True with them.")
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)

        def batches(size, first, worker):
            options = TrainingOptions(
                batch_size, steps, seed, augment, erasing, size, preprocess, first
            )
            begin, end = share(batch_size, worker)
            own = slice(min(begin, batch_size - 1), max(end, begin + 1))  # at least one
            made = self._training(options, mixing.pairs(own, batch_size) if mixing else own)
            if self._places is not None:
                made = made.map(self._labels)
            if one_hot:
                made = made.map(self._one_hot)
            if mixing:
                made = _mixed(made, mixing, options, own)

            def finished(images, labels):
                batch = scaled(images, labels, preprocess)
                return batch if worker[1] == 1 else (tf.constant(end - begin, tf.int64), batch)

            return made.map(finished)

        def make(worker):
            ends = [*list(sizes)[1:], None]
            parts = [
                batches(size, max(first, start_step), worker).take(
                    -1 if end is None else end - max(first, start_step)
                )
                for (first, size), end in zip(sizes.items(), ends, strict=True)
                if end is None or end > start_step
            ]
            return functools.reduce(tf.data.Dataset.concatenate, parts).apply(endless)

        return self._pipeline(make)

    def evaluation(
        self,
        split: str,
        batch_size: int,
        *,
        image_size: int | None = None,
        preprocess: str = "scale",
        one_hot: bool = False,
    ) -> tf.data.Dataset:
        """Every image of `split` once, in a fixed order."""
        one_of("split", split, SPLITS)
        at_least("batch_size", batch_size, 1)
        self._check(image_size, preprocess)

        def finished(images, labels):
            batch = self._labels(images, labels)
            batch = self._one_hot(*batch) if one_hot else batch
            return scaled(*batch, preprocess)

        def make(worker):
            batches = self._evaluation(split, batch_size, image_size, preprocess, worker)
            if worker[1] == 1:
                return batches.map(finished)
            return batches.map(lambda count, batch: (count, finished(*batch)))

        return self._pipeline(make)

    def _pipeline(self, make: Callable[[tuple[int, int]], tf.data.Dataset]) -> tf.data.Dataset:
        """Returns the pipeline that `make((0, 1))` begins; a `ByWorker` if the data set divides."""

        def of_worker(number, workers):
            return read_ahead(make((number, workers)))

        pipeline = of_worker(0, 1)
        return ByWorker(pipeline, of_worker) if self.divides else pipeline

    def _check(self, image_size: int | None, preprocess: str) -> None:
        if image_size is not None:
            at_least("image_size", image_size, 1)
        one_of("preprocess", preprocess, PREPROCESSING)

    def _one_hot(self, images, labels):
        return images, tf.one_hot(labels, self.classes)

    def _steps(self, options: "TrainingOptions") -> tf.data.Dataset:
        """The number of each step, and of the images of its batch."""
        steps, batch_size = options.steps, options.batch_size

        def epoch(number):
            order = shuffled(self.examples["train"], [options.seed, number])
            order = tf.reshape(order[: steps * batch_size], (steps, batch_size))
            return tf.data.Dataset.from_tensor_slices(order)

        indices = tf.data.Dataset.counter(options.start_step // steps).flat_map(epoch)
        return tf.data.Dataset.zip(
            tf.data.Dataset.counter(options.start_step), indices.skip(options.start_step % steps)
        )

    @abc.abstractmethod
    def _training(self, options: "TrainingOptions", rows: slice) -> tf.data.Dataset:
        """Endless batches of the images and labels of some rows of each batch.

        If the data set does not divide, these are all.
        """

    @abc.abstractmethod
    def _evaluation(self, split, batch_size, image_size, preprocess, worker) -> tf.data.Dataset:
        """Batches of images and labels, of the rows of a worker, its number and that of all.

        If there are several, each comes as a pair, as of `ByWorker.of_worker`.
        """


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What `Dataset.training` was asked for, and checked; `steps` is the length of an epoch."""

    batch_size: int
    steps: int
    seed: int
    augment: str
    erasing: float
    image_size: int | None
    preprocess: str
    start_step: int


def _mixed(batches, mixing: Mixing, options: TrainingOptions, own: slice) -> tf.data.Dataset:
    """The rows `own`, mixed with their partners, which `batches` have besides them."""
    rows = mixing.pairs(own, options.batch_size)
    size = batches.element_spec[0].shape[1:3]

    def planned(step):
        return mixing.plan(options.batch_size, size, [options.seed, step])[rows]

    def mix(batch, plan):
        images, labels = mixing.mixed(*batch, plan)
        kept = slice(own.start - rows.start, own.stop - rows.start)
        return images[kept], labels[kept]

    plans = tf.data.Dataset.counter(options.start_step).map(planned)
    return tf.data.Dataset.zip(batches, plans).map(mix, num_parallel_calls=tf.data.AUTOTUNE)


def read_ahead(pipeline: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the pipeline with its last step: batches are made while the model computes."""
    options = tf.data.Options()
    # In TensorFlow 2.21, its thread can hold up the end of a pass for as long as it took.
    options.autotune.enabled = False
    # Each map that TensorFlow makes parallel by itself reads ahead, too.
    options.experimental_optimization.map_parallelization = False
    # Where batches are not made by worker, each takes its part of every batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return pipeline.prefetch(READ_AHEAD).with_options(options)


def shuffled(count: int | tf.Tensor, seed) -> tf.Tensor:
    """The numbers below `count` in an order that follows from the two integers `seed`.

    `tf.random.experimental.index_shuffle` could give a single place of the order, but its orders
    under successive seeds are correlated: of 50, half of the numbers hardly ever come in one place.
    """
    return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)


def scaled(images: tf.Tensor, labels: tf.Tensor, preprocess: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Brings a batch to the type and the range of `preprocess`."""
    if preprocess == "none":
        if images.dtype != tf.uint8:
            images = tf.cast(images + 0.5, tf.uint8)
        return images, labels
    images = tf.cast(images, tf.float32)
    return images / 255.0 if preprocess == "scale" else images, labels


def share(rows: int, worker: tuple[int, int]) -> tuple[int, int]:
    """Returns the rows of a batch that belong to a worker: the first, and the end."""
    number, workers = worker
    return rows * number // workers, rows * (number + 1) // workers


def _normal(class_name: str) -> str:
    """The name in one Unicode form: file systems and archives have several."""
    return unicodedata.normalize("NFC", class_name)


def _listed(names: Sequence[str]) -> str:
    """A few names as text."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}.")


def one_of(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(values)}.")
