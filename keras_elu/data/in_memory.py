"""Data sets held in memory."""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_elu.data import augmentation, datasets, preprocessing


class InMemory(datasets.Dataset):
    """A data set whose images, all of one size, are held in memory and picked by index.

    Args:
        name: The name.
        class_names: The name of each class.
        arrays: Images (N, height, width, channels), uint8, and labels (N,), by split.
        mirror: Whether an image and its mirror image belong to one class.
        cache_dir: Where the whitening is kept; None: nowhere.
    """

    def __init__(
        self,
        name: str,
        class_names: Sequence[str],
        arrays: dict[str, datasets.Arrays],
        *,
        mirror: bool = True,
        cache_dir: pathlib.Path | None = None,
    ):
        examples = {split: len(arrays[split][1]) for split in datasets.SPLITS}
        super().__init__(name, class_names, arrays["train"][0].shape[1:], examples)
        self.held_out = arrays["validation"] is not arrays["test"]
        self._arrays = arrays
        self._mirror = mirror
        self._cache_dir = cache_dir
        self._held = {}

    def _training(self, options, rows):
        del rows  # all of them
        if options.augment in ("resized_crop", "trivial"):
            raise ValueError(
                f"augment is {options.augment!r}, but {self.name} has small images; use 'crop'."
            )
        if options.erasing:
            raise ValueError(
                f"erasing is {options.erasing}, but {self.name} has small images; use 0."
            )
        images, labels = self._tensors("train", options.preprocess)
        pad = max(1, self.image_shape[0] // 8) if options.augment == "crop" else 0  # 4 for 32x32

        def batch(step, indices):
            picked = tf.gather(images, indices)
            if options.augment in ("crop", "mirror"):
                picked = augmentation.pad_crop_flip(picked, [options.seed, step], pad, self._mirror)
            elif options.augment == "alternate" and self._mirror:
                epoch, count = step // options.steps, self.examples["train"]
                mirrored = augmentation.alternating(indices, epoch, options.seed, count)
                picked = augmentation.mirror(picked, mirrored)
            return resized(picked, options.image_size), tf.gather(labels, indices)

        return self._steps(options).map(batch, num_parallel_calls=tf.data.AUTOTUNE)

    def _evaluation(self, split, batch_size, image_size, preprocess, worker):
        del worker
        images, labels = self._tensors(split, preprocess)

        def batch(indices):
            return resized(tf.gather(images, indices), image_size), tf.gather(labels, indices)

        indices = tf.data.Dataset.range(self.examples[split]).batch(batch_size)
        return indices.map(batch, num_parallel_calls=tf.data.AUTOTUNE)

    @functools.cached_property
    def whitening(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the matrix with which "whiten" whitens."""
        return preprocessing.fit_once(self._arrays["train"][0], self._cache_dir, self.name)

    def _tensors(self, split: str, preprocess: str) -> tuple[tf.Tensor, tf.Tensor]:
        if (split, preprocess) not in self._held:
            self._held[split, preprocess] = self._make_tensors(split, preprocess)
        return self._held[split, preprocess]

    def _make_tensors(self, split: str, preprocess: str) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self._arrays[split]
        if preprocess == "whiten":
            images = preprocessing.whiten(images, *self.whitening)
        with tf.device("CPU:0"):  # where the pipeline runs
            return tf.constant(images), tf.constant(labels, tf.int32)


def synthetic(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    examples: int = 4096,
    seed: int = 0,
) -> datasets.Dataset:
    """Random images with random labels, in memory, for benchmarks.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        examples: Number of training images; validation and test are one image in eight more.
        seed: Equal seeds give equal images.

    Example:

    >>> dataset = synthetic(image_shape=(4, 4, 1), classes=3, examples=64)
    >>> images, labels = next(iter(dataset.training(batch_size=16, seed=1)))
    >>> images.shape, labels.shape
    (TensorShape([16, 4, 4, 1]), TensorShape([16]))
    """
    for name, value in {"classes": classes, "examples": examples}.items():
        datasets.at_least(name, value, 1)
    generator = np.random.default_rng(seed)

    def arrays(count: int) -> datasets.Arrays:
        images = generator.integers(0, 256, (count, *image_shape), np.uint8)
        return images, generator.integers(
            0, classes, count, np.uint8 if classes <= 256 else np.int32
        )

    train, test = arrays(examples), arrays(max(1, examples // 8))
    splits = {"train": train, "validation": test, "test": test}
    return InMemory("synthetic", list(map(str, range(classes))), splits)


def resized(images: tf.Tensor, size: int | None) -> tf.Tensor:
    """Returns images of a height and width of `size`, float32 if that is another than theirs."""
    if size is None or tuple(images.shape[1:3]) == (size, size):
        return images
    return tf.image.resize(tf.cast(images, tf.float32), (size, size))
