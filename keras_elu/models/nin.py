"""Network in Network, and the deeply-supervised network, which has the same trunk."""

from collections.abc import Sequence

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_elu.models import companions as companion
from keras_elu.models import units

# Blocks of one spatial convolution, as (filters, kernel size), and the filters of two 1x1
# convolutions after it; None: one per class. Max-pooling and dropout end the first two blocks.
_BLOCKS = (
    ((192, 5), (160, 96)),
    ((192, 5), (192, 192)),
    ((192, 3), (192, None)),
)
_DROPOUT = 0.5


def network_in_network(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    activation="relu",
    *,
    weight_decay: float = 0.0001,
    kernel_initializer=None,
    name: str = "network_in_network",
) -> keras.Model:
    """Three spatial convolutions, each followed by two 1x1 convolutions, and a global average.

    It has 966,986 parameters by default, and 984,356 with 100 classes. The activation also follows
    the maps of the classes. With images above 32 pixels, the logits are the mean over the remaining
    positions.

    Args:
        input_shape: Height, width and channels. Height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient. The authors' value
            for CIFAR-100 is .0005.
        kernel_initializer: Any Keras initializer. None: for ReLU, normal with the standard
            deviation .05 of the source, and from 100 classes on .001 for the first convolution and
            .01 for the next two; otherwise scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> network_in_network().count_params()
    966986

    Reference:
        [Lin et al., 2014](https://arxiv.org/abs/1312.4400), section 4, and its code,
        [mavenlin/cuda-convnet](https://github.com/mavenlin/cuda-convnet), NIN.
    """
    classes = units.check_classes(classes)
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original="relu",
    )
    starts = [0.001, 0.01, 0.01] if classes >= 100 else []
    inputs, x, _ = _trunk(net, input_shape, classes, starts)
    x = net.activation(x, units.logits_dtype())
    return keras.Model(inputs, _mean(x), name=name)


def deeply_supervised(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    activation="relu",
    *,
    companions: float | LearningRateSchedule | None = None,
    weight_decay: float = 0.0005,
    kernel_initializer=None,
    name: str = "deeply_supervised",
) -> keras.Model:
    """The network in network, trained with companion classifiers on its spatial convolutions.

    It has 966,986 parameters by default, and 984,356 with 100 classes. Unlike in
    `network_in_network`, no activation follows the maps of the classes. The companions are linear
    classifiers of the outputs of the three spatial convolutions, before the activation. They add
    2,580,510 parameters during training, and 25,805,100 with 100 classes. `without_companions`
    returns the trained network, which is that of `companions=None`.

    Args:
        input_shape: Height, width and channels. Without companions, height and width may be None.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        companions: None: no companions. Otherwise the weight of their losses, a positive number or
            a schedule of the number of training steps. Compile the model with `CompanionLoss` and
            `companion_accuracy`: in training it returns the logits of all classifiers.
        weight_decay: The multiple of each kernel that is added to its gradient.
        kernel_initializer: Any Keras initializer. None: for ReLU, normal with the standard
            deviation .05 of the source; otherwise scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = deeply_supervised(companions=1.0)
    >>> model.count_params(), without_companions(model).count_params()
    (3547496, 966986)

    Reference:
        [Lee et al., 2015](https://arxiv.org/abs/1409.5185), section 3, and its code,
        [s9xie/DSN](https://github.com/s9xie/DSN).
    """
    classes = units.check_classes(classes)
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original="relu",
    )
    inputs, x, spatial = _trunk(net, input_shape, classes, starts=[], fixed=companions is not None)
    logits = _mean(x)
    if companions is None:
        return keras.Model(inputs, logits, name=name)
    layer = companion.Companions(
        companions, weight_decay=weight_decay, dtype=units.logits_dtype(), name="companions"
    )
    return keras.Model(inputs, layer([logits, *spatial]), name=name)


def without_companions(model: keras.Model) -> keras.Model:
    """Returns the network of a `deeply_supervised` model without its companion classifiers.

    Args:
        model: A model that was built with companions. The returned model shares its layers.

    Raises:
        ValueError: If the model has no companions.
    """
    found = [layer for layer in model.layers if isinstance(layer, companion.Companions)]
    if len(found) != 1:
        raise ValueError(f"The model {model.name!r} has no companions.")
    return keras.Model(model.inputs, found[0].input[0], name=model.name)


def _trunk(net, input_shape, classes, starts, fixed=False):
    """The inputs, the maps of the classes, and the outputs of the spatial convolutions."""
    x = inputs = units.image_input(input_shape, fixed=fixed)
    starts = [*starts, *[0.05] * (9 - len(starts))]
    spatial = []
    for i, ((filters, size), mixing) in enumerate(_BLOCKS):
        x = net.conv(x, filters, size, start=starts[3 * i])
        spatial.append(x)
        for j, mixed in enumerate(mixing, start=1):
            x = net.activation(x)
            start = {"start": starts[3 * i + j]}
            if mixed is None:
                start |= {"name": "class_maps", "dtype": units.logits_dtype()}
            x = net.conv(x, mixed or classes, 1, **start)
        if i < len(_BLOCKS) - 1:
            x = net.dropout(net.pool(net.activation(x), 3, 2), _DROPOUT)
    return inputs, x, spatial


def _mean(x):
    layer = keras.layers.GlobalAveragePooling2D(dtype=units.logits_dtype(), name="logits")
    return layer(x)
