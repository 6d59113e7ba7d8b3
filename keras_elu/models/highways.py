"""The highway network with 19 layers."""

from collections.abc import Sequence

import keras

from keras_elu import layers
from keras_elu.models import units

# Stages of a convolution and highway blocks, all 3x3: (filters, blocks). Dropout is before them.
_STAGES = ((32, 4), (80, 5), (128, 5))
_LAST = 100  # filters of the 1x1 convolution
_DROPOUT = 0.2
_GATE = -2.0  # initial bias of the gates
_LOGITS_DECAY = 10


def highway(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    activation="relu",
    *,
    weight_decay: float = 0.001,
    kernel_initializer=None,
    name: str = "highway",
) -> keras.Model:
    """Nineteen layers, fourteen of which mix their input with what they make of it by a gate.

    It has 2,256,838 parameters by default, and 2,265,928 with 100 classes. Gates are sigmoids of a
    convolution, with any activation. With images above 32 pixels, the features are the mean
    over the remaining positions.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient; for the linear
            layer 10 times as much.
        kernel_initializer: Any Keras initializer. None: for ReLU, uniform with a variance of 1 /
            fan-in; otherwise scaled for the activation. Gates start with the former in both cases.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> highway().count_params()
    2256838

    Reference:
        [Srivastava et al., 2015](https://arxiv.org/abs/1507.06228), section 4, and its code,
        [flukeskywalker/highway-networks](https://github.com/flukeskywalker/highway-networks).
    """
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original="relu",
    )
    classes = units.check_classes(classes)
    x = inputs = units.image_input(input_shape)
    start = units.xavier()
    for i, (filters, blocks) in enumerate(_STAGES):
        x = net.dropout(net.pool(x) if i else x, _DROPOUT)
        x = net.activation(net.conv(x, filters, 3, start=start))
        for _ in range(blocks):
            transformed = net.activation(net.conv(x, filters, 3, start=start))
            gate = net.conv(
                x,
                filters,
                3,
                name=net.name("gate"),
                kernel_initializer=start,
                bias_initializer=keras.initializers.Constant(_GATE),
            )
            x = layers.HighwayGate(name=net.name("highway"))([transformed, gate, x])
    x = net.activation(net.conv(x, _LAST, 1, start=start))
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    logits = net.dense(
        net.dropout(x, _DROPOUT),
        classes,
        start=start,
        decay=_LOGITS_DECAY,
        name="logits",
        dtype=units.logits_dtype(),
    )
    return keras.Model(inputs, logits, name=name)
