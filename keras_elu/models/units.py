"""The building blocks of the networks: layers with weights, activation, pooling and dropout."""

import collections
import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_elu import layers

# Statistics of the pixels of ImageNet's training images, scaled to 0 to 1: for RGB and for grey.
_MEANS = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
_DEVIATIONS = {3: (0.229, 0.224, 0.225), 1: (0.226,)}


class Units:
    """Makes the layers of one network, named by kind and number.

    Args:
        activation: Any activation that `keras_elu.layers.get` accepts.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None keeps the second moment of the inputs of the
            activations at one.
        weight_decay: The multiple of each kernel that is added to its gradient.
        original: The activation for which layers may `start` with weights of their own, if there is
            no `kernel_initializer`.
    """

    def __init__(
        self,
        activation,
        *,
        kernel_initializer,
        batch_norm=False,
        weight_decay=0.0,
        original=None,
    ):
        if not is_number(weight_decay, numbers.Real) or not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay={weight_decay!r}: give a finite number, 0 or larger.")
        self._make_activation = layers.get(activation)
        self._example()
        self.batch_norm = batch_norm
        self._kernel_initializer = kernel_initializer
        self._is_original = original is not None and activation == original
        self._scale = None
        self._weight_decay = weight_decay
        self._count = collections.Counter()

    def conv(self, x, filters: int, size: int, strides: int = 1, padding: str = "same", **kwargs):
        return keras.layers.Conv2D(
            filters, size, strides, padding=padding, **self._weights("conv", kwargs)
        )(x)

    def dense(self, x, units: int, **kwargs):
        return keras.layers.Dense(units, **self._weights("dense", kwargs))(x)

    def activation(self, x, dtype: str | None = None):
        layer = self._make_activation()
        layer.name = self.name("activation")
        if dtype is not None:
            layer.dtype_policy = keras.DTypePolicy(dtype)
        return layer(x)

    def normalization(self, x, **kwargs):
        return keras.layers.BatchNormalization(name=self.name("batch_norm"), **kwargs)(x)

    def activate(self, x):
        """Applies the activation, then batch normalisation if the network has it."""
        x = self.activation(x)
        return self.normalization(x) if self.batch_norm else x

    def pool(
        self,
        x,
        size: int | Sequence[int] = 2,
        strides: int | None = None,
        kind=keras.layers.MaxPooling2D,
    ):
        # "same" also pools an odd last row, and keeps a map of one pixel.
        return kind(size, strides, padding="same", name=self.name("pool"))(x)

    def dropout(self, x, rate: float):
        return keras.layers.Dropout(rate, name=self.name("dropout"))(x) if rate else x

    def name(self, kind: str) -> str:
        self._count[kind] += 1
        return f"{kind}_{self._count[kind]}"

    def _weights(self, kind, kwargs) -> dict[str, Any]:
        """The arguments of a layer.

        Of these, `start` is the standard deviation or the initializer of the kernel in the source,
        `inputs` the standard deviation of the layer's inputs, and `decay` a factor on the weight
        decay.
        """
        start, inputs = kwargs.pop("start", None), kwargs.pop("inputs", 1.0)
        decay = kwargs.pop("decay", 1.0) * self._weight_decay
        if start is None or not self._is_original or self._kernel_initializer is not None:
            start = self._initializer(inputs)
        elif isinstance(start, float):
            start = keras.initializers.RandomNormal(stddev=start)
        defaults = {
            "name": kwargs.get("name") or self.name(kind),
            "kernel_initializer": start,
            # The gradient of r w^2 is 2 r w.
            "kernel_regularizer": keras.regularizers.L2(decay / 2) if decay else None,
        }
        return defaults | kwargs

    def _initializer(self, inputs):
        if self._kernel_initializer is None:
            if self._scale is None:
                self._scale = 1 / second_moment(self._make_activation)
            scale = self._scale / inputs**2
            return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal")
        initializer = keras.initializers.get(self._kernel_initializer)
        if not isinstance(initializer, keras.initializers.Initializer):
            return initializer
        # One initializer object gives equal values to all kernels of equal shape.
        config = initializer.get_config()
        if isinstance(config.get("seed"), int):
            self._count["seed"] += 1
            config["seed"] += self._count["seed"]
        return type(initializer).from_config(config)

    def _example(self):
        example = self._make_activation()
        if not isinstance(example, keras.layers.Layer):
            raise ValueError(
                f"The activation function returned {example!r}: it must return a Keras layer."
            )
        return example


def xavier() -> keras.initializers.Initializer:
    """Caffe's initializer of that name: uniform, with a variance of 1 / fan-in."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")


def logits_dtype() -> str:
    """The dtype of the layer that returns logits: float32 in mixed precision."""
    return keras.config.dtype_policy().variable_dtype


def second_moment(activation) -> float:
    """Returns the mean of `f(z)**2` for a standard normal `z`.

    With its reciprocal as the scale, `keras.initializers.VarianceScaling` with "fan_in" keeps the
    second moment of the inputs of the activations constant from layer to layer.

    Args:
        activation: Any elementwise activation that `keras_elu.layers.get` accepts.

    Raises:
        ValueError: If the activation is unknown, or its second moment is 0 or not finite.

    Example:

    >>> [round(second_moment(name), 3) for name in ("relu", "elu", "selu")]
    [0.5, 0.645, 1.0]

    Reference:
        [He et al., 2015](https://arxiv.org/abs/1502.01852), section 2.2.
    """
    # A sum over equal steps needs no smoothness, and has a step at every whole number, where kinks
    # may lie.
    z = np.linspace(-8, 8, 16 * 256 + 1)
    density = np.exp(-np.square(z) / 2)
    # Four axes, for layers that share weights over the rows and columns of an image.
    images = z.reshape(-1, 1, 1, 1).astype("float32")
    outputs = keras.ops.convert_to_numpy(layers.get(activation)()(images))
    squares = np.square(outputs.astype("float64").reshape(-1))
    moment = float(density @ squares / density.sum())
    if not 0 < moment < math.inf:
        raise ValueError(
            f"The activation {activation!r} has a second moment of {moment} for standard "
            "normal inputs: give a kernel_initializer."
        )
    return moment


def image_input(shape: Sequence[int | None], *, fixed: bool = False):
    """An input for images, checked here because Keras would only fail deep inside a layer.

    Args:
        shape: Height, width and channels.
        fixed: Whether height and width must be numbers.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "These networks put the channels last: call "
            "keras.config.set_image_data_format('channels_last') first."
        )
    if (
        not isinstance(shape, (list, tuple))
        or len(shape) != 3
        or not all(
            is_positive(n) or (n is None and axis < 2 and not fixed) for axis, n in enumerate(shape)
        )
    ):
        raise ValueError(
            f"input_shape={shape!r}: give (height, width, channels), positive whole numbers"
            + ("." if fixed else ", or None for a height or width that varies.")
        )
    return keras.Input(tuple(shape), name="images")


def standardize(pixels):
    """Standardizes pixels from 0 to 255 with the mean and standard deviation of ImageNet."""
    channels = pixels.shape[-1]
    if channels not in _MEANS:
        raise ValueError(
            f"include_preprocessing supports images with 1 or 3 channels, not {channels}: leave it "
            "out and standardize the images yourself."
        )
    means, deviations = _MEANS[channels], _DEVIATIONS[channels]
    return keras.layers.Rescaling(
        [1 / (255 * deviation) for deviation in deviations],
        [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)],
        name="standardize",
    )(pixels)


def check_classes(classes: int) -> int:
    if not is_positive(classes):
        raise ValueError(f"classes={classes!r}: give a positive whole number.")
    return int(classes)


def check_rates(name: str, rates: Sequence[float], count: int) -> tuple[float, ...]:
    if not isinstance(rates, (list, tuple)) or len(rates) != count or not all(map(is_rate, rates)):
        raise ValueError(
            f"{name}={rates!r}: give {count} numbers from 0 to below 1, one for each stack."
        )
    return tuple(float(rate) for rate in rates)


def is_rate(value) -> bool:
    return is_number(value, numbers.Real) and 0 <= value < 1


def is_positive(value) -> bool:
    return is_number(value, numbers.Integral) and value > 0


def is_number(value, kind) -> bool:
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
