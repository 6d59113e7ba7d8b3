"""The network with fractional max-pooling."""

import functools
from collections.abc import Sequence

import keras

from keras_elu import layers
from keras_elu.models import units

_FIELD = 94  # side of the map in the middle of which the image lies
_POOLINGS = 12
_RATIO = 2 ** (1 / 3)
_DROPOUT = 0.5  # after the last hidden layer; it rises in proportion to the depth
_LEAKY_RELU = functools.partial(keras.layers.LeakyReLU, negative_slope=1 / 3)


def fractional_max_pooling(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    activation=_LEAKY_RELU,
    *,
    width: int = 160,
    weight_decay: float = 0.0,
    kernel_initializer=None,
    name: str = "fractional_max_pooling",
) -> keras.Model:
    """Twelve 2x2 convolutions, each followed by pooling by the cube root of 2, and two more.

    The image lies in the middle of a map of 94x94 zeros. It has 79,247,530 parameters by default.
    The network of the paper for CIFAR-100 has `width=64`, and 12,770,212 parameters.

    Args:
        input_shape: Height, width and channels. Height and width are at most 94.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts. By default leaky ReLU with a
            slope of 1/3.
        width: Number of filters that each convolution has more than the one before it, positive.
        weight_decay: The multiple of each kernel that is added to its gradient.
        kernel_initializer: Any Keras initializer. None: for leaky ReLU "glorot_uniform", where the
            source is uniform within unstated bounds; otherwise scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = fractional_max_pooling(width=2)
    >>> [layer.output.shape[1] for layer in model.layers if layer.name.startswith("pool")]
    [74, 58, 45, 35, 27, 21, 16, 12, 9, 6, 4, 2]

    Reference:
        [Graham, 2014](https://arxiv.org/abs/1412.6071), section 4, and its code,
        [btgraham/SparseConvNet](https://github.com/btgraham/SparseConvNet-archived).
    """
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original=_LEAKY_RELU,
    )
    classes = units.check_classes(classes)
    if not units.is_positive(width):
        raise ValueError(f"width={width!r}: give a positive whole number.")
    x = inputs = units.image_input(input_shape, fixed=True)
    if max(input_shape[:2]) > _FIELD:
        raise ValueError(f"input_shape={input_shape!r}: give a height and width up to {_FIELD}.")
    missing = [_FIELD - side for side in input_shape[:2]]
    pads = [(pad // 2, pad - pad // 2) for pad in missing]
    x = keras.layers.ZeroPadding2D(pads, name="pad")(x)
    hidden = _POOLINGS + 2
    for i in range(1, hidden + 1):
        size = 1 if i == hidden else 2
        x = net.activation(net.conv(x, width * i, size, 1, "valid", start="glorot_uniform"))
        if i <= _POOLINGS:
            x = layers.FractionalMaxPooling2D(_RATIO, name=net.name("pool"))(x)
        x = net.dropout(x, _DROPOUT * i / hidden)
    x = keras.layers.Flatten(name="flatten")(x)
    logits = net.dense(
        x, classes, start="glorot_uniform", name="logits", dtype=units.logits_dtype()
    )
    return keras.Model(inputs, logits, name=name)
