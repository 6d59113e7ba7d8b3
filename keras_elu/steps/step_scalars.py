"""The scalars of every training step, also of the steps inside one execution."""

import time
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_elu import layers
from keras_elu.steps import keras_internals


class Reader:
    """Reads the scalars of a step while the step is traced.

    Args:
        model: A compiled model whose variables all exist.
        training: Whether the step trains; evaluation has only the loss and the wait.

    Attributes:
        names: Names of the scalars: the loss of the step's batch; the seconds spent waiting for the
            batch; the learning rate, if the optimizer has one; and, for each layer with a scheduled
            or learnt alpha, its mean after the step.
    """

    def __init__(self, model: keras.Model, training: bool):
        found = keras_internals.layers(model) if training else []
        self._changing = {f"alpha/{layer.name}": layer for layer in found if _changes(layer)}
        optimizer = model.optimizer if training else None
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        # A MultiOptimizer has none: each of its optimizers has its own.
        self._optimizer = inner if hasattr(inner, "learning_rate") else None
        rate = ["learning_rate"] if self._optimizer is not None else []
        self.names = ("batch_loss", "input_wait", *rate, *self._changing)

    def before(self) -> list[tf.Tensor]:
        """Returns the scalars to read before the step."""
        return [] if self._optimizer is None else [_mean(self._optimizer.learning_rate)]

    def after(self) -> list[tf.Tensor]:
        """Returns the scalars to read after the step."""
        return [_mean(layer.alpha) for layer in self._changing.values()]


def timed(get: Callable, first: Callable) -> tuple:
    """Returns `get()`, `first` of it, and the seconds until that tensor was ready."""
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
