"""The fully connected networks of section 4.1."""

import math
from collections.abc import Sequence

import keras

from keras_elu.models import units


def mnist_mlp(
    input_shape: Sequence[int] = (28, 28, 1),
    classes: int = 10,
    activation="elu",
    *,
    batch_norm: bool = False,
    kernel_initializer=None,
    name: str = "mnist_mlp",
) -> keras.Model:
    """Eight layers of 128 units.

    217,354 parameters for the defaults.

    Args:
        input_shape: Of one example; all its numbers enter the first layer.
        classes: Number of logits, positive.
        activation: As `keras_elu.layers.get` takes it.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation. The
            authors' code has "he_uniform".
        name: Of the model.

    Input and output shape:
        `(batch, *input_shape)`, and logits `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> mnist_mlp().count_params()
    217354

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.1.
    """
    net = units.Units(activation, batch_norm=batch_norm, kernel_initializer=kernel_initializer)
    classes = units.check_classes(classes)
    x = inputs = keras.Input(_shape(input_shape), name="images")
    x = keras.layers.Flatten(name="flatten")(x)
    for _ in range(8):
        x = net.activate(net.dense(x, 128))
    logits = net.dense(x, classes, name="logits", dtype=units.logits_dtype())
    return keras.Model(inputs, logits, name=name)


def mnist_autoencoder(
    input_shape: Sequence[int] = (28, 28, 1),
    activation="elu",
    *,
    batch_norm: bool = False,
    kernel_initializer=None,
    name: str = "mnist_autoencoder",
) -> keras.Model:
    """Autoencoder: 1000, 500, 250, 30, 250, 500 and 1000 units, and its input again.

    2,837,314 parameters for the defaults. The paper leaves open what the code of 30 units and the
    output are: here the code has the activation as every other layer has it, and the output is
    linear.

    Args:
        input_shape: Of one example; all its numbers enter the first layer.
        activation: As `keras_elu.layers.get` takes it.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation.
        name: Of the model.

    Input and output shape:
        `(batch, *input_shape)`, both.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> mnist_autoencoder().count_params()
    2837314

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.1.
    """
    net = units.Units(activation, batch_norm=batch_norm, kernel_initializer=kernel_initializer)
    shape = _shape(input_shape)
    x = inputs = keras.Input(shape, name="images")
    x = keras.layers.Flatten(name="flatten")(x)
    for width in (1000, 500, 250, 30, 250, 500, 1000):
        x = net.activate(net.dense(x, width))
    dtype = units.logits_dtype()
    x = net.dense(x, math.prod(shape), name="outputs", dtype=dtype)
    outputs = keras.layers.Reshape(shape, dtype=dtype, name="reconstruction")(x)
    return keras.Model(inputs, outputs, name=name)


def _shape(shape) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple)) or not shape or not all(map(units.is_positive, shape)):
        raise ValueError(
            f"input_shape={shape!r}: give the shape of one example, positive whole numbers."
        )
    return tuple(shape)
