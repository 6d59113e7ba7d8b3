"""Residual networks that ELU can train without an activation after the addition."""

import numbers
from collections.abc import Sequence

import keras

from keras_elu.models import units


def elu_resnet(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    activation="elu",
    *,
    depth: int = 20,
    weight_decay: float = 0.0001,
    batch_norm: bool = True,
    kernel_initializer=None,
    name: str | None = None,
) -> keras.Model:
    """Residual network for CIFAR: three stages of 16, 32 and 64 filters.

    Each of its blocks adds convolution, activation, convolution, batch normalisation to what
    enters it, and nothing follows the addition: with an activation there, or with batch
    normalisation before the ELU, deep ones train badly or not at all. Chosen here: the first
    convolution has its activation, then batch normalisation; where the shape changes, a 1x1
    convolution with batch normalisation is the shortcut; a branch starts at zero, so that each
    block starts as its shortcut; weight decay on kernels only.

    Args:
        input_shape: Height and width, each of which may be None, and channels.
        classes: Number of logits, positive.
        activation: As `keras_elu.layers.get` takes it.
        depth: Layers with weights on the longest path: 6 n + 2, as 20, 32, 44, 56 and 110.
        weight_decay: What is added to the gradient for each unit of weight.
        batch_norm: Whether there is batch normalisation. A branch starts at zero by its gamma,
            and without it by the kernel of its last convolution.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation.
        name: Of the model; None is "elu_resnet_" and the depth.

    Input and output shape:
        `(batch, height, width, channels)`, and logits `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> elu_resnet(depth=110).name
    'elu_resnet_110'

    Reference:
        [Shah et al., 2016](https://arxiv.org/abs/1604.04112), section 3;
        [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.2.
    """
    if not units.is_number(depth, numbers.Integral) or depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth={depth!r}: give 6 n + 2 for a positive n, as 20, 32, 56 or 110.")
    net = units.Units(
        activation,
        batch_norm=batch_norm,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
    )
    inputs = units.image_input(input_shape)
    x = net.activate(net.conv(inputs, 16, 3))
    stages = [(int(depth) // 6, ((3, filters), (3, filters))) for filters in (16, 32, 64)]
    return _network(net, inputs, x, stages, classes, name or f"elu_resnet_{depth}")


def elu_resnet_50(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 1000,
    activation="elu",
    *,
    weight_decay: float = 0.0001,
    batch_norm: bool = True,
    kernel_initializer=None,
    include_preprocessing: bool = False,
    name: str = "elu_resnet_50",
) -> keras.Model:
    """Residual network for ImageNet: 50 layers, in blocks of three convolutions.

    Built as `elu_resnet`: an activation after each convolution of a branch but the last, batch
    normalisation at its end, nothing after the addition. Chosen here, besides: the stride of a
    block is that of its 3x3 convolution.

    Args:
        input_shape: Height and width, each of which may be None, and channels.
        classes: Number of logits, positive.
        activation: As `keras_elu.layers.get` takes it.
        weight_decay: What is added to the gradient for each unit of weight.
        batch_norm: Whether there is batch normalisation, as for `elu_resnet`.
        kernel_initializer: As a Keras layer takes it; None initialises for the activation.
        include_preprocessing: Whether pixels from 0 to 255 come in, and ImageNet's mean is taken
            from them and its standard deviation divides them.
        name: Of the model.

    Input and output shape:
        `(batch, height, width, channels)`, and logits `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> elu_resnet_50(classes=10).output_shape
    (None, 10)

    Reference:
        [Shah et al., 2016](https://arxiv.org/abs/1604.04112), section 3;
        [He et al., 2015](https://arxiv.org/abs/1512.03385), section 4.1.
    """
    net = units.Units(
        activation,
        batch_norm=batch_norm,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
    )
    inputs = units.image_input(input_shape)
    images = units.standardize(inputs) if include_preprocessing else inputs
    x = net.activate(net.conv(images, 64, 7, 2))
    x = net.pool(x, 3, 2)
    stages = [
        (blocks, ((1, filters), (3, filters), (1, 4 * filters)))
        for blocks, filters in ((3, 64), (4, 128), (6, 256), (3, 512))
    ]
    return _network(net, inputs, x, stages, classes, name)


def _network(net, inputs, x, stages, classes, name) -> keras.Model:
    classes = units.check_classes(classes)
    for stage, (blocks, convolutions) in enumerate(stages):
        for block in range(blocks):
            x = _block(net, x, convolutions, strides=2 if stage > 0 and block == 0 else 1)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    logits = net.dense(x, classes, name="logits", dtype=units.logits_dtype())
    return keras.Model(inputs, logits, name=name)


def _block(net, x, convolutions, strides):
    *hidden, (size, filters) = convolutions
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = _last(net, x, filters, 1, strides)
    # The first 3x3 convolution has the stride; so it is in a basic block and in a bottleneck.
    for field, width in hidden:
        stride, strides = (strides, 1) if field == 3 else (1, strides)
        x = net.activation(net.conv(x, width, field, stride))
    x = _last(net, x, filters, size, 1, starts_at="zeros")
    return keras.layers.Add(name=net.name("add"))([x, shortcut])


def _last(net, x, filters, size, strides, starts_at=None):
    """A convolution without an activation, and the initializer of what scales it."""
    if not net.batch_norm:
        kernel = {} if starts_at is None else {"kernel_initializer": starts_at}
        return net.conv(x, filters, size, strides, **kernel)
    # Batch normalisation takes a bias away again.
    x = net.conv(x, filters, size, strides, use_bias=False)
    return net.normalization(x, gamma_initializer=starts_at or "ones")
