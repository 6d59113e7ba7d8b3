"""Which parts of a model come from Keras or from this package, and which from the user."""

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals, pieces

ON_ONE = "train on one replica with micro_batches=1"  # the advice of every refusal
PIECES = "replicas and micro-batches see only some of them"  # and its reason


def is_keras(thing) -> bool:
    """Returns whether a function, or the class of an object, is Keras's or this package's."""
    thing = thing if hasattr(thing, "__qualname__") else type(thing)
    return thing.__module__.partition(".")[0] in ("keras", "keras_elu")


def is_known(layer: keras.Layer) -> bool:
    """Returns whether a layer computes each row from that row alone, up to normalisation.

    This holds for Keras's layers without functions of the user's, along other axes than the first.
    """
    activation = getattr(layer, "activation", None)
    written = isinstance(layer, keras.layers.Lambda) or may_span_rows(layer, _rank(layer))
    return is_keras(layer) and not written and (activation is None or is_keras(activation))


def may_span_rows(thing, rank: int | None = None) -> bool:
    """Returns whether a layer, loss or metric may compute along the axis of the rows.

    Args:
        thing: It, with its axis among its attributes or its function's arguments.
        rank: The number of axes of what it gets; None: unknown.
    """
    given = getattr(thing, "axis", None), getattr(thing, "_fn_kwargs", {}).get("axis")
    axes = [axis for axis in tf.nest.flatten(given) if axis is not None]
    return any(axis % rank == 0 if rank else axis == 0 or axis < -1 for axis in axes)


def _rank(layer: keras.Layer) -> int | None:
    try:
        return len(tf.nest.flatten(layer.input)[0].shape)
    except (AttributeError, IndexError, ValueError):  # not called with one symbolic input
        shape = (layer.get_build_config() or {}).get("input_shape")
        return len(shape) if shape else None


def is_known_network(model: keras.Model) -> bool:
    """Returns whether the predictions of a model are computed by known layers alone."""
    inner = keras_internals.layers(model)[1:]
    own = type(model).call is keras.Model.call or is_keras(type(model).call)
    return own and all(map(is_known, inner)) and not keras_internals.operations(model)


def is_all_keras(model: keras.Model) -> bool:
    """Returns whether everything that a step computes is Keras's or this package's."""
    regularizers = [v.regularizer for v in model.trainable_variables if v.regularizer is not None]
    losses = [getattr(loss, "fn", loss) for loss in pieces.losses(model)]
    metrics = keras_internals.compiled_metrics(model)
    functions = [getattr(metric, "_fn", metric) for metric in metrics]
    optimizer = [] if model.optimizer is None else [model.optimizer]
    parts = [*regularizers, *losses, *metrics, *functions, *optimizer]
    operations = keras_internals.operations(model)
    own = type(model).call is keras.Model.call or is_keras(type(model).call)
    layers = all(map(is_known, keras_internals.layers(model)[1:]))
    return own and layers and all(map(is_keras, [*parts, *operations]))
