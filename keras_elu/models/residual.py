"""Residual networks for ELU, without an activation after the addition."""

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

    The branch of a block is convolution, activation, convolution, batch normalisation, and nothing
    follows the addition. With an activation after the addition, or batch normalisation before the
    ELU, deep networks train badly or not at all. The paper leaves some choices open. Here the first
    convolution is followed by the activation and batch normalisation. Where the shape changes, the
    shortcut is a 1x1 convolution with batch normalisation. Branches are initially zero, which makes
    each block equal to its shortcut. Weight decay applies to kernels only.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        depth: Number of layers with weights on the longest path, 6 n + 2: 20, 32, 44, 56 or 110.
        weight_decay: The multiple of each kernel that is added to its gradient.
        batch_norm: Whether there is batch normalisation. A branch is initially zero through its
            gamma, or without it through the kernel of the last convolution.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        name: Name of the model. None: "elu_resnet_" and the depth.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

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
        raise ValueError(
            f"depth={depth!r}: give 6 n + 2 for a positive n, such as 20, 32, 56 or 110."
        )
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

    Like `elu_resnet`, it has an activation after each convolution of a branch except the last,
    batch normalisation at the end of the branch, and nothing after the addition. Where a block has
    a stride, it is in the 3x3 convolution.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient.
        batch_norm: Whether there is batch normalisation, as for `elu_resnet`.
        kernel_initializer: Any Keras initializer. None: scaled for the activation.
        include_preprocessing: Whether the model takes pixels from 0 to 255 and standardizes them
            with the mean and standard deviation of ImageNet.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

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
    # The first 3x3 convolution has the stride, in a basic block and in a bottleneck.
    for field, width in hidden:
        stride, strides = (strides, 1) if field == 3 else (1, strides)
        x = net.activation(net.conv(x, width, field, stride))
    x = _last(net, x, filters, size, 1, starts_at="zeros")
    return keras.layers.Add(name=net.name("add"))([x, shortcut])


def _last(net, x, filters, size, strides, starts_at=None):
    """A convolution without an activation; `starts_at` initializes its scale."""
    if not net.batch_norm:
        kernel = {} if starts_at is None else {"kernel_initializer": starts_at}
        return net.conv(x, filters, size, strides, **kernel)
    # Batch normalisation would cancel a bias.
    x = net.conv(x, filters, size, strides, use_bias=False)
    return net.normalization(x, gamma_initializer=starts_at or "ones")
