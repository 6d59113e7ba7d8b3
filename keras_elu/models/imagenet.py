"""The ImageNet network of section 4.4."""

import math
import numbers
from collections.abc import Sequence

import keras

from keras_elu.models import pyramid, units

# Stacks of (layers, units, kernel size), then fully connected layers.
_STACKS = ((1, 96, 6), (3, 512, 3), (5, 768, 3), (3, 1024, 3))
_DENSE = (4096, 4096)
_LEVELS = (1, 2, 4)


def elu_imagenet_15(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 1000,
    activation="elu",
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    weight_decay: float = 0.0005,
    batch_norm: bool = False,
    kernel_initializer=None,
    include_preprocessing: bool = False,
    name: str = "elu_imagenet_15",
) -> keras.Model:
    """Twelve convolutions, spatial pyramid pooling, and three fully connected layers.

    The parameters do not depend on the size of the images. The paper leaves some choices open. Here
    the first layer has a stride of 2, the pyramid levels have 1, 2 and 4 bins per side, and weight
    decay applies to kernels and not to biases. Each stack ends with 2x2 max-pooling, except along a
    side that would become shorter than 4 pixels, the number of bins of the finest level. This
    affects images below 97 pixels: an image of 32 would otherwise enter the pyramid as a single
    pixel. A side of None is always pooled.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        width: Factor on the number of units of every hidden layer, positive.
        dropout: Rate after each of the two hidden fully connected layers, from 0 to below 1.
        weight_decay: The multiple of each kernel that is added to its gradient, as in the paper.
            `keras.regularizers.L2`, which adds twice its argument, gets half of it.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        include_preprocessing: Whether the model takes pixels from 0 to 255 and standardizes them
            with the mean and standard deviation of ImageNet.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = elu_imagenet_15((None, None, 3), classes=10, width=1 / 16)
    >>> model(np.zeros((2, 100, 60, 3))).shape
    TensorShape([2, 10])

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.4.
    """
    if not units.is_number(width, numbers.Real) or not 0 < width < math.inf:
        raise ValueError(f"width={width!r}: give a positive finite number.")
    net = units.Units(
        activation,
        batch_norm=batch_norm,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
    )
    classes = units.check_classes(classes)
    if not units.is_rate(dropout):
        raise ValueError(f"dropout={dropout!r}: give a number from 0 to below 1.")
    x = inputs = units.image_input(input_shape)
    if include_preprocessing:
        x = units.standardize(x)
    for i, (count, filters, field) in enumerate(_STACKS):
        for j in range(count):
            strides = 2 if i == j == 0 else 1
            x = net.activate(net.conv(x, _scaled(filters, width), field, strides))
        x = _pool(net, x)
    x = pyramid.SpatialPyramidPooling2D(_LEVELS, name="pyramid")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for filters in _DENSE:
        x = net.dropout(net.activate(net.dense(x, _scaled(filters, width))), dropout)
    logits = net.dense(x, classes, name="logits", dtype=units.logits_dtype())
    return keras.Model(inputs, logits, name=name)


def _pool(net, x):
    sides = x.shape[1:3]
    size = [2 if side is None or side > 2 * (max(_LEVELS) - 1) else 1 for side in sides]
    return net.pool(x, size) if max(size) > 1 else x


def _scaled(count: int, width: float) -> int:
    return max(1, round(count * width))
