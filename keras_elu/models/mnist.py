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

    It has 217,354 parameters by default.

    Args:
        input_shape: Shape of one example, which is flattened.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None: scaled for the activation. The authors'
            code uses "he_uniform".
        name: Name of the model.

    Input and output shape:
        `(batch, *input_shape)`; logits, `(batch, classes)`.

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
    include_preprocessing: bool = False,
    name: str = "mnist_autoencoder",
) -> keras.Model:
    """Autoencoder with layers of 1000, 500, 250, 30, 250, 500 and 1000 units.

    It has 2,837,314 parameters by default. The paper leaves open whether the bottleneck of 30 units
    and the output have an activation. Here the bottleneck does, and the output does not.

    Args:
        input_shape: Shape of one example, which is flattened.
        activation: Any activation that `keras_elu.layers.get` accepts.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        include_preprocessing: Whether the model takes and returns pixels from 0 to 255, and scales
            them itself. Otherwise they are from 0 to 1.
        name: Name of the model.

    Input and output shape:
        Both `(batch, *input_shape)`.

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
    if include_preprocessing:
        x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for width in (1000, 500, 250, 30, 250, 500, 1000):
        x = net.activate(net.dense(x, width))
    dtype = units.logits_dtype()
    x = net.dense(x, math.prod(shape), name="outputs", dtype=dtype)
    outputs = keras.layers.Reshape(shape, dtype=dtype, name="reconstruction")(x)
    if include_preprocessing:
        outputs = keras.layers.Rescaling(255, dtype=dtype, name="unscale")(outputs)
    return keras.Model(inputs, outputs, name=name)


def _shape(shape) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple)) or not shape or not all(map(units.is_positive, shape)):
        raise ValueError(
            f"input_shape={shape!r}: give the shape of one example, positive whole numbers."
        )
    return tuple(shape)
