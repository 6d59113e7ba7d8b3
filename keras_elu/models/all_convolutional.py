"""The network that has no pooling, All-CNN-C."""

from collections.abc import Sequence

import keras

from keras_elu.models import units

# Blocks: the dropout before them, and convolutions as (filters, kernel size, stride, padding).
_BLOCKS = (
    (0.2, ((96, 3, 1, "same"), (96, 3, 1, "same"), (96, 3, 2, "same"))),
    (0.5, ((192, 3, 1, "same"), (192, 3, 1, "same"), (192, 3, 2, "same"))),
    (0.5, ((192, 3, 1, "valid"), (192, 1, 1, "valid"))),
)


def all_cnn(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    activation="relu",
    *,
    weight_decay: float = 0.001,
    kernel_initializer=None,
    name: str = "all_cnn",
) -> keras.Model:
    """Nine convolutions, two of them with a stride instead of pooling, and a global average.

    It has 1,369,738 parameters by default, and 1,387,108 with 100 classes. The activation also
    follows the maps of the classes.

    Args:
        input_shape: Height, width and channels. Height and width, at least 9, may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient.
        kernel_initializer: Any Keras initializer. None: for ReLU, uniform with a variance of 1 /
            fan-in, as in a public reproduction, because the paper does not say; otherwise scaled
            for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> all_cnn().count_params()
    1369738

    Reference:
        [Springenberg et al., 2015](https://arxiv.org/abs/1412.6806), section 3, network C.
    """
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original="relu",
    )
    classes = units.check_classes(classes)
    x = inputs = units.image_input(input_shape)
    if any(side is not None and side < 9 for side in input_shape[:2]):
        raise ValueError(f"input_shape={input_shape!r}: give a height and width of at least 9.")
    dtype, start = units.logits_dtype(), units.xavier()
    for rate, convolutions in _BLOCKS:
        x = net.dropout(x, rate)
        for filters, size, strides, padding in convolutions:
            x = net.activation(net.conv(x, filters, size, strides, padding, start=start))
    x = net.conv(x, classes, 1, start=start, name="class_maps", dtype=dtype)
    x = net.activation(x, dtype)
    logits = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="logits")(x)
    return keras.Model(inputs, logits, name=name)
