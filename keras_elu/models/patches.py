"""A first convolution that whitens patches of the images."""

import math

import keras
import numpy as np

_CHUNK = 500  # images at a time in float64, to keep memory down
_LEAST = 5e-4  # added to each eigenvalue, as a multiple of the variance of a pixel


@keras.saving.register_keras_serializable("keras_elu")
class PatchWhitening(keras.layers.Layer):
    """A convolution with fixed filters that whiten small patches of the images, and a bias.

    The filters are the eigenvectors of the covariance of the patches, each divided by the square
    root of its eigenvalue, and their negatives. The outputs have mean 0 and variance 1 on the
    images that the layer was fitted to. The bias, which is trained, starts at 0. Always computes
    in float32.

    Args:
        size: Height and width of the patches, positive.

    Input and output shape:
        `(batch, height, width, channels)`; `(batch, height - size + 1, width - size + 1, filters)`,
        with `2 * size**2 * channels` filters.

    Example:

    >>> images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1))
    >>> layer = PatchWhitening()
    >>> layer.adapt(images)
    >>> outputs = layer(images)
    >>> outputs.shape, float(np.std(outputs).round(2))
    (TensorShape([100, 7, 7, 8]), 1.0)

    Reference:
        [Jordan, 2024](https://arxiv.org/abs/2404.00498), section 3.2, after
        [Page, 2019](https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks).
    """

    def __init__(self, size: int = 2, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.size = size
        self.supports_jit = True

    def build(self, input_shape):
        patch = (self.size, self.size, input_shape[-1])
        filters = 2 * math.prod(patch)
        self.kernel = self.add_weight(
            shape=(*patch, filters), initializer="zeros", trainable=False, name="kernel"
        )
        self.offset = self.add_weight(
            shape=(filters,), initializer="zeros", trainable=False, name="offset"
        )
        self.bias = self.add_weight(shape=(filters,), initializer="zeros", name="bias")

    def adapt(self, images: np.ndarray) -> None:
        """Fits the filters, and the offset that makes the means of their outputs 0, to images.

        Args:
            images: (images, height, width, channels), numbers.
        """
        if not self.weights:
            self.build(images.shape)
        kernel, offset = _fitted(images, self.size)
        self.kernel.assign(kernel)
        self.offset.assign(offset)

    def call(self, images):
        x = keras.ops.cast(images, self.compute_dtype)
        return keras.ops.conv(x, self.kernel, padding="valid") + (self.offset + self.bias)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        sides = (side and side - self.size + 1 for side in sides)
        return batch, *sides, 2 * self.size**2 * channels

    @property
    def multiply_accumulates(self) -> int:
        """Multiplications of weights for one image."""
        return math.prod(self.output.shape[1:-1]) * math.prod(self.kernel.shape)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _fitted(images: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and the offset."""
    _, height, width, channels = images.shape
    features = size * size * channels
    count, total, products = 0, np.zeros(features), np.zeros((features, features))
    for start in range(0, len(images), _CHUNK):
        chunk = np.asarray(images[start : start + _CHUNK], "float64")
        views = [
            chunk[:, y : height - size + 1 + y, x : width - size + 1 + x]
            for y in range(size)
            for x in range(size)
        ]
        patches = np.concatenate(views, axis=-1).reshape(-1, features)
        count += len(patches)
        total += patches.sum(axis=0)
        products += patches.T @ patches
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    variance = np.trace(covariance) / features
    eigenvalues, vectors = np.linalg.eigh(covariance)
    filters = vectors / np.sqrt(eigenvalues + _LEAST * (variance or 1.0))
    filters = np.concatenate([filters, -filters], axis=1)
    return filters.reshape(size, size, channels, -1), -mean @ filters
