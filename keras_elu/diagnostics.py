"""What goes on inside a network: how far its activations are from zero, and how many are stuck.

The mean of a unit's activations is the bias shift that it causes in the next layer, which ELU is
there to keep small. A saturated unit has next to no gradient.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 2.
"""

import dataclasses

import keras

from keras_elu import layers

FLAT = 0.05  # a slope below which an activation is saturated
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
        saturated: Share of its inputs at which its slope is below 0.05: of an ELU's, those whose
            outputs are within 5% of the lowest.
    """

    mean: float
    saturated: float


def activity(model: keras.Model, x) -> dict[str, Activity]:
    """Returns the activity of each activation layer of a functional model, by its name.

    Args:
        model: A functional model. Of its layers count those that are an activation and nothing
            else.
        x: Its input, one batch.

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
    """Returns the layers of a functional model that are an activation and nothing else."""
    of_rows = (keras.activations.softmax, keras.activations.log_softmax)
    return [
        layer
        for layer in model.layers
        if isinstance(layer, _ACTIVATIONS) and getattr(layer, "activation", None) not in of_rows
    ]


def observer(model: keras.Model) -> keras.Model:
    """Returns a model of the same layers that gives its outputs, and `activations` their due.

    That is for each of those layers the pair of its input and its output.
    """
    seen = [(layer.input, layer.output) for layer in activations(model)]
    return keras.Model(model.input, (model.output, seen))


def numbers(layer: keras.Layer, x, y) -> tuple:
    """Returns mean and saturated share of an activation with these inputs and outputs, as tensors.

    The slope is that between two points close by, in float32 whatever the layer's precision.
    """
    x = keras.ops.cast(x, "float32")
    step = keras.ops.maximum(keras.ops.absolute(x), 1.0) / 64
    slope = (layer.call(x + step) - layer.call(x - step)) / (2 * step)
    saturated = keras.ops.absolute(slope) < FLAT
    return keras.ops.mean(keras.ops.cast(y, "float32")), keras.ops.mean(
        keras.ops.cast(saturated, "float32")
    )
