"""The scalars of every training step, including those inside an execution of several steps."""

import time
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_elu import layers
from keras_elu.distributed import keras_internals


class StepScalars:
    """Gives a row of numbers for every step; called where the steps are traced.

    Args:
        model: A compiled model, all variables of which exist.
        training: Whether it trains; an evaluation has its loss and its wait only.

    Attributes:
        names: Of the numbers: the loss of the step's batch; the seconds for which it waited for the
            batch; the learning rate that it used; and by layer each alpha that changes, a schedule
            or learnt, the mean where it is several, as it is after the step.
    """

    def __init__(self, model: keras.Model, training: bool):
        found = keras_internals.layers(model) if training else []
        self._changing = {f"alpha/{layer.name}": layer for layer in found if _changes(layer)}
        optimizer = model.optimizer if training else None
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        rate = ["learning_rate"] if self._optimizer is not None else []
        self.names = ("batch_loss", "input_wait", *rate, *self._changing)

    def before(self) -> list[tf.Tensor]:
        """The numbers that stand before the step."""
        return [] if self._optimizer is None else [_mean(self._optimizer.learning_rate)]

    def after(self) -> list[tf.Tensor]:
        """The numbers that stand after it."""
        return [_mean(layer.alpha) for layer in self._changing.values()]


def timed(get: Callable, first: Callable) -> tuple:
    """Returns what `get` gives, and the seconds until the tensor `first` of it was there."""
    now = tf.timestamp if _has_timestamp() else _python_time
    begin = now()
    with tf.control_dependencies([begin]):
        given = get()
        there = first(given)
    with tf.control_dependencies([there]):
        return given, there, tf.cast(now() - begin, "float32")


def _has_timestamp() -> bool:
    """Whether TensorFlow gives the time, which it refuses under its op determinism."""
    with tf.init_scope():
        try:
            tf.timestamp()
        except tf.errors.OpError:
            return False
    return True


def _python_time() -> tf.Tensor:
    return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), [])


def _changes(layer: keras.Layer) -> bool:
    if isinstance(layer, layers.ELU):
        return layer.schedule is not None
    return isinstance(layer, layers.ParametricELU)


def _mean(value) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(tf.convert_to_tensor(value), "float32"))
