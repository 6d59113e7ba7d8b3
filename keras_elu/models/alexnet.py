"""The small network of Krizhevsky's cuda-convnet, which tables of CIFAR call AlexNet."""

from collections.abc import Sequence

import keras

from keras_elu import layers
from keras_elu.models import units

# Filters, standard deviation of the initial kernel, and kind of pooling.
_STACKS = ((32, 1e-4, "max"), (32, 0.01, "average"), (64, 0.01, "average"))
_LOGITS_DECAY = 250  # 1 instead of .004
_PIXELS = 64.0  # standard deviation of the inputs, roughly


def alexnet_cifar(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    activation="relu",
    *,
    weight_decay: float = 0.004,
    kernel_initializer=None,
    name: str = "alexnet_cifar",
) -> keras.Model:
    """Three convolutions with pooling and response normalisation, and a linear layer.

    It has 89,578 parameters by default, and 181,828 with 100 classes. The paper's table does not
    say which network its AlexNet is. This one, known for an error of 18% on CIFAR-10, is the most
    likely. It takes pixels less the mean image, from -255 to 255.

    Args:
        input_shape: Height, width and channels.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        weight_decay: The multiple of each kernel that is added to its gradient; for the linear
            layer 250 times as much.
        kernel_initializer: Any Keras initializer. None: for ReLU, normal with the standard
            deviations .0001 and .01 of the source; otherwise scaled for the activation.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> alexnet_cifar().count_params()
    89578

    Reference:
        [cuda-convnet](https://code.google.com/archive/p/cuda-convnet), layers-18pct.cfg;
        [Caffe](https://github.com/BVLC/caffe), examples/cifar10/cifar10_full_train_test.prototxt.
    """
    net = units.Units(
        activation,
        kernel_initializer=kernel_initializer,
        weight_decay=weight_decay,
        original="relu",
    )
    classes = units.check_classes(classes)
    x = inputs = units.image_input(input_shape, fixed=True)
    for i, (filters, start, kind) in enumerate(_STACKS):
        x = net.conv(x, filters, 5, start=start, inputs=1.0 if i else _PIXELS)
        if kind == "max":  # before the activation
            x = net.activation(net.pool(x, 3, 2))
        else:
            x = net.pool(net.activation(x), 3, 2, kind=keras.layers.AveragePooling2D)
        if i < len(_STACKS) - 1:
            x = layers.ResponseNormalization2D(name=net.name("response_norm"))(x)
    x = keras.layers.Flatten(name="flatten")(x)
    logits = net.dense(
        x,
        classes,
        start=0.01,
        decay=_LOGITS_DECAY,
        name="logits",
        dtype=units.logits_dtype(),
    )
    return keras.Model(inputs, logits, name=name)
