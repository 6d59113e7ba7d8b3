"""A network that learns CIFAR in a few epochs."""

import numbers
from collections.abc import Sequence

import keras

from keras_elu.initializers import Dirac, pytorch_default
from keras_elu.models import units
from keras_elu.models.patches import PatchWhitening

_MOMENTUM = 0.6  # of the moving statistics, for runs of a few hundred steps
_EPSILON = 1e-5


def fast_cifar(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    activation="elu",
    *,
    widths: Sequence[int] = (64, 256, 384),
    convolutions: int = 2,
    gain: float = 3.3,
    temperature: float = 9.0,
    weight_decay: float = 0.00133,
    whiten: bool = True,
    kernel_initializer=None,
    name: str = "fast_cifar",
) -> keras.Model:
    """Convolutions in three stages on whitened patches, with batch normalisation before the ELU.

    A stage is a convolution with 2x2 max-pooling after it, and further convolutions that keep the
    shape. With three or more, the last one's output is added to its input. Batch normalisation has
    no scale. A fixed gain precedes the activation. `ELU(gain * x)` is
    `gain * CELU(x, alpha=1 / gain)`, and the next batch normalisation removes the factor.

    It takes pixels from 0 to 255. Fit the first layer with
    `model.get_layer("patch_whitening").adapt(images)`.

    Args:
        input_shape: Height, width and channels.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts.
        widths: Filters of each stage, positive.
        convolutions: Number of convolutions of each stage, positive.
        gain: Factor on the inputs of the activations, positive.
        temperature: Number by which the logits are divided, after the gain. Positive.
        weight_decay: The multiple of each kernel that is added to its gradient.
        whiten: Whether the first convolution is a `PatchWhitening`. If not, it is an ordinary one
            of the same size, on standardized pixels.
        kernel_initializer: Any Keras initializer for the convolutions. None: `Dirac`.
        name: Name of the model.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> keras_elu.models.multiply_accumulates(fast_cifar())
    139234848

    Reference:
        [Jordan, 2024](https://arxiv.org/abs/2404.00498), section 3, after
        [Page, 2019](https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks).
    """
    classes = units.check_classes(classes)
    for argument, value in (("gain", gain), ("temperature", temperature)):
        if not units.is_number(value, numbers.Real) or not 0 < value < float("inf"):
            raise ValueError(f"{argument}={value!r}: give a positive finite number.")
    if not widths or not all(map(units.is_positive, [*widths, convolutions])):
        raise ValueError(
            f"widths={widths!r}, convolutions={convolutions!r}: give positive whole numbers."
        )
    net = units.Units(activation, kernel_initializer=kernel_initializer, weight_decay=weight_decay)

    def activated(x):
        if gain != 1:
            x = keras.layers.Rescaling(gain, name=net.name("gain"))(x)
        return net.activation(x)

    def convolved(x, width, pool=False):
        start = {} if kernel_initializer is not None else {"kernel_initializer": Dirac()}
        x = net.conv(x, width, 3, use_bias=False, **start)
        if pool and min(x.shape[1:3]) > 1:
            x = keras.layers.MaxPooling2D(name=net.name("pool"))(x)
        x = net.normalization(x, momentum=_MOMENTUM, epsilon=_EPSILON, scale=False)
        return activated(x)

    inputs = units.image_input(input_shape, fixed=True)
    if whiten:
        x = PatchWhitening(name="patch_whitening")(inputs)
    else:
        x = net.conv(units.standardize(inputs), 8 * inputs.shape[-1], 2, padding="valid")
    x = activated(x)
    for width in widths:
        x = convolved(x, width, pool=True)
        for number in range(2, convolutions + 1):
            y = convolved(x, width)
            is_residual = number == convolutions >= 3
            x = keras.layers.Add(name=net.name("add"))([x, y]) if is_residual else y
    dtype = units.logits_dtype()
    x = keras.layers.GlobalMaxPooling2D(dtype=dtype, name="maximum")(x)
    x = keras.layers.Rescaling(1 / (temperature * gain), dtype=dtype, name="scale")(x)
    logits = net.dense(
        x,
        classes,
        use_bias=False,
        kernel_initializer=pytorch_default(),
        name="logits",
        dtype=dtype,
    )
    return keras.Model(inputs, logits, name=name)
