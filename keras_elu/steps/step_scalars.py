"""The scalars of every training step, including those inside an execution of several steps."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_elu import layers
from keras_elu.steps import keras_internals


class Reader:
    """Reads the scalars of a step; called where the steps are traced.

    Args:
        model: A compiled model, all variables of which exist.
        training: Whether it trains; an evaluation has its loss and its wait only.

    Attributes:
        names: Of the scalars: the loss of the step's batch; the seconds that it waited for the
            batch; the learning rate that it used; and, by layer, each alpha that is scheduled or
            learnt, after the step, and its mean where there are several.
    """

    def __init__(self, model: keras.Model, training: bool):
        found = keras_internals.layers(model) if training else []
        self._changing = {f"alpha/{layer.name}": layer for layer in found if _changes(layer)}
        optimizer = model.optimizer if training else None
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        rate = ["learning_rate"] if self._optimizer is not None else []
        self.names = ("batch_loss", "input_wait", *rate, *self._changing)

    def before(self) -> list[tf.Tensor]:
        """Returns the scalars to read before the step."""
        return [] if self._optimizer is None else [_mean(self._optimizer.learning_rate)]

    def after(self) -> list[tf.Tensor]:
        """Returns the scalars to read after the step."""
        return [_mean(layer.alpha) for layer in self._changing.values()]


def timed(get: Callable, first: Callable) -> tuple:
    """Returns what `get` returns, the tensor `first` of it, and the seconds until it was there."""
    begin = tf.timestamp()
    with tf.control_dependencies([begin]):
        given = get()
        there = first(given)
    with tf.control_dependencies([there]):
        return given, there, tf.cast(tf.timestamp() - begin, "float32")


def _changes(layer: keras.Layer) -> bool:
    if isinstance(layer, layers.ELU):
        return layer.schedule is not None
    return isinstance(layer, layers.ParametricELU)


def _mean(value) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(tf.convert_to_tensor(value), "float32"))
