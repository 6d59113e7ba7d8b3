"""How the networks for CIFAR take their images: preprocessing, and augmentation after it."""

import functools

import keras
import numpy as np
import tensorflow as tf

from keras_elu import data, models
from keras_elu.data import augmentation, loading

PREPROCESSING = ("whiten", "contrast", "unit_contrast", "mean", "range")
AUGMENTATIONS = ("none", "crop", "affine")


def preprocessing_layers(kind: str, augment: str, dataset: data.Dataset) -> list[keras.Layer]:
    """Returns the layers through which images pass before augmentation and the network.

    Whitening is not among them: the pipelines of data sets do it.

    Args:
        kind: One of `PREPROCESSING`.
        augment: One of `AUGMENTATIONS`. "affine" moves images about in a border of zeros.
        dataset: The data set, whose training images "contrast" and "mean" are fitted to.
    """
    layers = {
        "whiten": lambda: [],
        "contrast": lambda: [_contrast(), _less_mean(_contrast(), dataset)],
        # The source does not say how; values of 4 standard deviations stay within 0 to 1.
        "unit_contrast": lambda: [_contrast(), _rescaling(1 / 8, 0.5)],
        "mean": lambda: [_less_mean(None, dataset)],
        "range": lambda: [_rescaling(1 / 127.5, -1.0)],
    }[kind]()
    if augment == "affine":
        border = tuple(side - 1 for side in dataset.image_shape[:2])
        layers.append(keras.layers.ZeroPadding2D(border, dtype="float32", name="border"))
    return layers


def _contrast():
    return models.ContrastNormalization(dtype="float32", name="contrast")


def _rescaling(scale, offset):
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="scale")


def _less_mean(layer, dataset):
    mean = _mean_image(dataset, layer is not None)
    ones = np.ones_like(mean)
    layer = keras.layers.Normalization(
        axis=(1, 2, 3), mean=mean, variance=ones, dtype="float32", name="subtract_mean"
    )
    layer.build((None, *mean.shape))  # now, since it would be a part of the pipeline's graph then
    return layer


@functools.lru_cache(maxsize=4)
def _mean_image(dataset: data.Dataset, contrast: bool) -> np.ndarray:
    """The mean of the training images, or of these with their contrast normalised."""
    layer, total = _contrast(), np.zeros(dataset.image_shape)
    for images, _ in dataset.evaluation("train", 1000, preprocess="none"):
        images = layer(images) if contrast else images
        total += keras.ops.convert_to_numpy(images).astype("float64").sum(axis=0)
    return (total / dataset.examples["train"]).astype("float32")


def through(batches: tf.data.Dataset, layers: list[keras.Layer]) -> tf.data.Dataset:
    """Returns batches whose images have passed through layers."""
    if not layers:
        return batches

    def prepared(images, labels):
        for layer in layers:
            images = layer(images)
        return images, labels

    return batches.map(prepared, num_parallel_calls=tf.data.AUTOTUNE)


def augmented(
    batches: tf.data.Dataset, dataset: data.Dataset, augment: str, pad: int, seed: int, start: int
) -> tf.data.Dataset:
    """Returns batches of augmented images, a pure function of `seed` and the step.

    Args:
        batches: Endless batches.
        dataset: The data set, which decides whether images are mirrored.
        augment: One of `AUGMENTATIONS`.
        pad: Width of the border for "crop".
        seed: The seed.
        start: The step of the first batch.
    """
    if augment == "none":
        return batches
    mirror = dataset.name.partition("/")[0] not in loading.NOT_MIRRORED

    def change(step, batch):
        images, labels = batch
        seeds = tf.stack([tf.constant(seed, tf.int64), step])
        if augment == "affine":
            return affine(images, seeds, dataset.image_shape[0] / 2, mirror), labels
        return augmentation.pad_crop_flip(images, seeds, pad, mirror), labels

    steps = tf.data.Dataset.counter(start)
    return tf.data.Dataset.zip(steps, batches).map(change, num_parallel_calls=tf.data.AUTOTUNE)


def affine(images: tf.Tensor, seed: tf.Tensor, shift: float, mirror: bool) -> tf.Tensor:
    """Stretches images by up to a fifth, shears or rotates by up to .2, shifts and mirrors them.

    Args:
        images: (batch, height, width, channels).
        seed: Two integers; equal seeds give equal batches.
        shift: Largest shift along each side, in pixels.
        mirror: Whether half of the images are flipped left to right.

    Output shape:
        That of `images`, float32. What lies outside of an image is 0.

    Reference:
        Graham, 2014 (https://arxiv.org/abs/1412.6071), section 4, and its code.
    """
    batch, height, width, _ = images.shape
    seeds = tf.random.split(seed, 3)
    drawn = tf.random.stateless_uniform((5, batch), seeds[0], -1.0, 1.0)
    x_scale, y_scale, bend = 1 + 0.2 * drawn[0], 1 + 0.2 * drawn[1], 0.2 * drawn[2]
    flipped = tf.random.stateless_uniform((batch,), seeds[1]) < (0.5 if mirror else 0.0)
    x_scale = tf.where(flipped, -x_scale, x_scale)
    kind = tf.random.stateless_uniform((batch,), seeds[2], 0, 3, tf.int32)
    cos = tf.where(kind == 0, tf.cos(bend), 1.0)
    above = tf.where(kind == 0, -tf.sin(bend), tf.where(kind == 1, bend, 0.0))
    below = tf.where(kind == 0, tf.sin(bend), tf.where(kind == 2, bend, 0.0))
    # From a place in the output, relative to its centre, to the place in the input.
    a, b, c, d = cos * x_scale, above * y_scale, below * x_scale, cos * y_scale
    right, down = (width - 1) / 2, (height - 1) / 2
    x_shift, y_shift = shift * drawn[3], shift * drawn[4]
    zero = tf.zeros_like(a)
    column = right - a * right - b * down + x_shift
    row = down - c * right - d * down + y_shift
    transforms = tf.stack([a, b, column, c, d, row, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
