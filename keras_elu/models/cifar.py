"""The convolutional networks of sections 4.2 and 4.3."""

from collections.abc import Sequence

import keras

from keras_elu.models import units

# Stacks of (layers, units, field). One more layer, with a field of 1 and a unit a class, ends each.
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
    """Eleven convolutions in stacks, a 2x2 max-pool after each stack.

    1,669,028 parameters for the defaults. The paper leaves open, and here are chosen: drop-out
    after the pool; weight decay on kernels, not on biases; no activation on the logits; for images
    above 32 pixels a mean of the logits over what is left of the map.

    Args:
        input_shape: Height and width, each of which may be None, and channels.
        classes: Number of logits, positive.
        activation: As `keras_elu.layers.get` takes it.
        dropout: Rate after each of the six pools.
        weight_decay: As in the paper, what is added to the gradient for each unit of weight: half
            of it goes to `keras.regularizers.L2`, which adds twice its argument.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation.
        name: Of the model.

    Input and output shape:
        `(batch, height, width, channels)`, and logits `(batch, classes)`.

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
    """Eighteen convolutions in stacks, a 2x2 max-pool after each stack, and one for the logits.

    39,330,404 parameters for the defaults, 39,226,634 for 10 classes. The paper leaves open, and
    here are chosen: what `elu_cifar_11` chooses, and the drop-out rates of the first phase. For
    its second phase, build the network again with the rates `(0, .1, .2, .3, .4, .5, 0)` and
    `dropout_everywhere`, and hand over the weights; for the third, with 1.5 times these rates.

    Args:
        input_shape: Height and width, each of which may be None, and channels.
        classes: Number of logits, positive.
        activation: As `keras_elu.layers.get` takes it.
        dropout: Rate after each of the seven pools.
        dropout_everywhere: Whether drop-out follows every layer of a stack, at the stack's rate.
        weight_decay: As in the paper, what is added to the gradient for each unit of weight.
        batch_norm: Whether batch normalisation follows every activation.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation.
        name: Of the model.

    Input and output shape:
        `(batch, height, width, channels)`, and logits `(batch, classes)`.

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
