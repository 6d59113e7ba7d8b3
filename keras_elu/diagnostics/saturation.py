"""The state of a network's activations: their mean, and how many are saturated.

The mean of a unit's activations is the bias shift that it causes in the next layer. ELU keeps it
small. A saturated unit has almost no gradient.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 2.
"""

import dataclasses

import keras

from keras_elu import layers

FLAT = 0.05  # an activation with a smaller slope is saturated
_ACTIVATIONS = (
    *(layers.ELU, layers.ParametricELU, layers.ShiftedReLU),
    *(keras.layers.Activation, keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.PReLU),
    keras.layers.ReLU,
)


@dataclasses.dataclass(frozen=True)
class Activity:
    """How an activation layer responds.

    Args:
        mean: Mean of its outputs.
        saturated: Share of its inputs at which its slope is below 0.05. For an ELU with an alpha of
            1, its outputs there are within 5% of the lowest.
    """

    mean: float
    saturated: float


def activity(model: keras.Model, x) -> dict[str, Activity]:
    """Returns the activity of each activation layer of a functional model, by layer name.

    Args:
        model: A functional model. Only layers that are an activation and nothing else are covered.
        x: One batch of inputs.

    Example:

    >>> inputs = keras.Input((1,))
    >>> model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inputs))
    >>> activity(model, np.array([[-3.0], [-1.0], [0.5], [5.5]]))
    {'relu': Activity(mean=1.5, saturated=0.5)}
    """
    _, seen = observer(model)(x)
    return {
        layer.name: Activity(*(float(keras.ops.convert_to_numpy(n)) for n in numbers(layer, *io)))
        for layer, io in zip(activations(model), seen, strict=True)
    }


def activations(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a functional model that are an elementwise activation only."""
    of_rows = (keras.activations.softmax, keras.activations.log_softmax)
    return [
        layer
        for layer in model.layers
        if isinstance(layer, _ACTIVATIONS) and getattr(layer, "activation", None) not in of_rows
    ]


def observer(model: keras.Model) -> keras.Model:
    """Returns a model of the same layers with more outputs.

    They are the outputs of the model, and a list with the input and the output of each layer in
    `activations(model)`.
    """
    seen = [(layer.input, layer.output) for layer in activations(model)]
    return keras.Model(model.input, (model.output, seen))


def numbers(layer: keras.Layer, x, y) -> tuple:
    """Returns the mean and the saturated share of an activation layer, as tensors.

    The slope is the difference quotient of two nearby points, computed from float32 inputs.
    """
    x = keras.ops.cast(x, "float32")
    step = keras.ops.maximum(keras.ops.absolute(x), 1.0) / 64
    slope = (layer.call(x + step) - layer.call(x - step)) / (2 * step)
    saturated = keras.ops.absolute(slope) < FLAT
    return keras.ops.mean(keras.ops.cast(y, "float32")), keras.ops.mean(
        keras.ops.cast(saturated, "float32")
    )
