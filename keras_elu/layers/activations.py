"""Activations by name, class, object or function."""

import functools
from collections.abc import Callable

import keras

from keras_elu.layers.elu import ELU
from keras_elu.layers.parametric import ParametricELU
from keras_elu.layers.shifted_relu import ShiftedReLU

_MAKERS: dict[str, Callable[[], keras.layers.Layer]] = {
    "elu": ELU,
    "parametric_elu": ParametricELU,
    "shifted_relu": ShiftedReLU,
    "relu": keras.layers.ReLU,
    "leaky_relu": functools.partial(
        keras.layers.LeakyReLU, negative_slope=0.1
    ),  # the paper's slope
    **{
        name: functools.partial(keras.layers.Activation, name)
        for name in ("celu", "gelu", "selu", "silu")
    },
}


def get(activation) -> Callable[[], keras.layers.Layer]:
    """Returns a function of no arguments that makes a new activation layer at every call.

    Args:
        activation: A name ("elu", "parametric_elu", "shifted_relu", "relu", "leaky_relu" with the
            paper's slope of 0.1, "celu", "gelu", "selu", "silu"), a layer class, a layer (copied
            from its config at every call, so that no two places share weights), or a function
            without arguments that returns a layer.

    Raises:
        ValueError: If `activation` is none of these.

    Example:

    >>> [layer().__class__.__name__ for layer in (get("elu"), get(ELU), get(ELU(alpha=0.5)))]
    ['ELU', 'ELU', 'ELU']
    """
    if isinstance(activation, str) and activation in _MAKERS:
        return _MAKERS[activation]
    if isinstance(activation, keras.layers.Layer):
        config = {k: v for k, v in activation.get_config().items() if k != "name"}
        return lambda: type(activation).from_config(config)
    if callable(activation):
        return activation
    raise ValueError(
        f"Unknown activation {activation!r}: use one of {', '.join(sorted(_MAKERS))}, a layer "
        "class, a layer, or a function that returns a layer."
    )
