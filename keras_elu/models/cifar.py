"""The convolutional networks of sections 4.2 and 4.3."""

from collections.abc import Sequence

import keras

from keras_elu.models import units

# Stacks of (layers, units, kernel size). A 1x1 layer with one unit per class ends each network.
_STACKS_11 = (
    [(1, 192, 5)],
    [(1, 192, 1), (1, 240, 3)],
    [(1, 240, 1), (1, 260, 2)],
    [(1, 260, 1), (1, 280, 2)],
    [(1, 280, 1), (1, 300, 2)],
    [(1, 300, 1)],
)
_STACKS_18 = (
    [(1, 384, 3)],
    [(1, 384, 1), (1, 384, 2), (2, 640, 2)],
    [(1, 640, 1), (3, 768, 2)],
    [(1, 768, 1), (2, 896, 2)],
    [(1, 896, 3), (2, 1024, 2)],
    [(1, 1024, 1), (1, 1152, 2)],
    [(1, 1152, 1)],
)


def elu_cifar_11(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 100,
    activation="elu",
    *,
    dropout: Sequence[float] = (0, 0.1, 0.2, 0.3, 0.4, 0.5),
    weight_decay: float = 0.0005,
    batch_norm: bool = False,
    kernel_initializer=None,
    name: str = "elu_cifar_11",
) -> keras.Model:
    """Eleven convolutions in stacks, each followed by 2x2 max-pooling.

    It has 1,669,028 parameters by default. The paper leaves some choices open. Here dropout follows
    the pooling, weight decay applies to kernels and not to biases, and the logits have no
    activation. With images above 32 pixels, the logits are the mean over the remaining positions.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        dropout: Rates after each of the six pooling layers.
        weight_decay: The multiple of each kernel that is added to its gradient, as in the paper.
            `keras.regularizers.L2`, which adds twice its argument, gets half of it.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> elu_cifar_11().count_params()
    1669028

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.2.
    """
    net = units.Units(
        activation,
        batch_norm=batch_norm,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
    )
    return _network(net, _STACKS_11, input_shape, classes, dropout, every=False, name=name)


def elu_cifar_18(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 100,
    activation="elu",
    *,
    dropout: Sequence[float] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5),
    dropout_everywhere: bool = False,
    weight_decay: float = 0.0005,
    batch_norm: bool = False,
    kernel_initializer=None,
    name: str = "elu_cifar_18",
) -> keras.Model:
    """Eighteen convolutions in stacks, each followed by 2x2 max-pooling, and one for the logits.

    It has 39,330,404 parameters by default, and 39,226,634 with 10 classes. The choices that the
    paper leaves open are those of `elu_cifar_11`, and the dropout rates of the first phase. For the
    paper's second phase, build the network again with the rates `(0, .1, .2, .3, .4, .5, 0)` and
    `dropout_everywhere`, and copy the weights. For the third, use 1.5 times these rates.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        dropout: Rates after each of the seven pooling layers.
        dropout_everywhere: Whether dropout follows every layer of a stack, at its rate.
        weight_decay: The multiple of each kernel that is added to its gradient, as in the paper.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = elu_cifar_18(classes=10, dropout=[0.2] * 7, dropout_everywhere=True)

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.3.
    """
    net = units.Units(
        activation,
        batch_norm=batch_norm,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
    )
    return _network(
        net, _STACKS_18, input_shape, classes, dropout, every=dropout_everywhere, name=name
    )


def _network(net, stacks, input_shape, classes, dropout, *, every, name) -> keras.Model:
    classes = units.check_classes(classes)
    dropout = units.check_rates("dropout", dropout, len(stacks))
    x = inputs = units.image_input(input_shape)
    for stack, rate in zip(stacks, dropout, strict=True):
        fields = [(width, field) for count, width, field in stack for _ in range(count)]
        for i, (width, field) in enumerate(fields, start=1):
            x = net.activate(net.conv(x, width, field))
            if every and i < len(fields):
                x = net.dropout(x, rate)
        x = net.dropout(net.pool(x), rate)
    dtype = units.logits_dtype()
    x = net.conv(x, classes, 1, name="class_maps", dtype=dtype)
    logits = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="logits")(x)
    return keras.Model(inputs, logits, name=name)
