"""The maxout network."""

from collections.abc import Sequence

import keras

from keras_elu import layers
from keras_elu.models import units

# Convolutions: units, pieces, kernel size, padding, pooling (size, strides), and the largest norm
# of a filter. Then a dense layer: units, pieces, and the largest norm of a column.
_CONVOLUTIONS = (
    (96, 2, 8, 4, (4, 2), 0.9),
    (192, 2, 8, 3, (4, 2), 1.9365),
    (192, 2, 5, 3, (2, 2), 1.9365),
)
_DENSE = (500, 5, 1.9)
_LOGITS_NORM = 1.9365
_START = 0.005
_DROPOUT = (0.2, 0.5, 0.5, 0.5, 0.5)  # of the images, and after every layer


def maxout(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    activation="maxout",
    *,
    weight_decay: float = 0.0,
    kernel_initializer=None,
    name: str = "maxout",
) -> keras.Model:
    """Three convolutions with overlapping pooling, and a dense layer, of maxout units.

    It has 16,247,830 parameters by default, and 16,292,920 with 100 classes. Each unit is the
    maximum of 2 linear pieces, or of 5 in the dense layer. With another activation it has one
    piece, and the network 4,525,670 parameters. The norm of the weights of each unit is limited.

    Args:
        input_shape: Height, width and channels.
        classes: Number of classes, positive.
        activation: "maxout", or any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient.
        kernel_initializer: Any Keras initializer. None: for maxout, uniform from -.005 to .005, as
            in the source; otherwise scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> maxout(activation="elu").count_params()
    4525670

    Reference:
        [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389), section 5.2, and its code,
        [pylearn2](https://github.com/lisa-lab/pylearn2), scripts/papers/maxout/cifar10.yaml.
    """
    original = isinstance(activation, str) and activation == "maxout"
    net = units.Units(
        layers.Maxout if original else activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original=layers.Maxout,
    )

    def activate(x, pieces):
        if not original:
            return net.activation(x)
        return layers.Maxout(pieces, name=net.name("activation"))(x)

    classes = units.check_classes(classes)
    x = inputs = units.image_input(input_shape, fixed=True)
    start = keras.initializers.RandomUniform(-_START, _START)
    for (count, pieces, size, pad, pool, norm), rate in zip(_CONVOLUTIONS, _DROPOUT, strict=False):
        x = keras.layers.ZeroPadding2D(pad, name=net.name("pad"))(net.dropout(x, rate))
        constraint = keras.constraints.MaxNorm(norm, axis=[0, 1, 2])
        filters = count * pieces if original else count
        x = net.conv(x, filters, size, 1, "valid", start=start, kernel_constraint=constraint)
        x = layers.CeilMaxPooling2D(*pool, name=net.name("pool"))(activate(x, pieces))
    x = net.dropout(keras.layers.Flatten(name="flatten")(x), _DROPOUT[-2])
    count, pieces, norm = _DENSE
    constraint = keras.constraints.MaxNorm(norm, axis=0)
    x = net.dense(
        x, count * pieces if original else count, start=start, kernel_constraint=constraint
    )
    logits = net.dense(
        net.dropout(activate(x, pieces), _DROPOUT[-1]),
        classes,
        start=start,
        kernel_constraint=keras.constraints.MaxNorm(_LOGITS_NORM, axis=0),
        name="logits",
        dtype=units.logits_dtype(),
    )
    return keras.Model(inputs, logits, name=name)
