"""All that is replaced in Keras although Keras does not offer it for replacement.

Keras 3.14 and 3.15 have no public way to build a model for its data without reading a batch, to
apply an optimizer to tensors on TensorFlow, or to see the single losses of `compile`.
What is done instead is here and nowhere else, and only for the versions that the tests run on.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from unittest import mock

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))
if not (3, 14) <= _VERSION <= (3, 15):
    raise ImportError(
        f"keras_elu.training works with Keras 3.14 and 3.15, not {keras.__version__}: install "
        "'keras>=3.14,<3.16'."
    )

_lock = threading.Lock()


class BuiltForSpec:
    """A part of a model class that is built for the data set that it is to train on.

    Keras calls its one method at the start of `fit`, `evaluate`, `train_on_batch` and
    `test_on_batch`. A class that has this part defines `build_for`, which takes what the data set
    yields as `tf.TensorSpec`s, or None where Keras reads from the data set that was distributed
    latest.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if data_batch is not None:
            given = tuple(part for part in data_batch if part is not None)
            data_batch = tf.nest.map_structure(
                lambda array: tf.TensorSpec.from_tensor(tf.convert_to_tensor(array)), given
            )
        self.build_for(data_batch)


def build(model: keras.Model, batch) -> None:
    """Creates every variable of the optimizer, the metrics and the losses.

    Keras reads a batch for this and throws it away, and under several workers fails to
    (https://github.com/keras-team/keras/issues/20585).

    Args:
        model: A compiled model.
        batch: What the data set yields, as `tf.TensorSpec`s.
    """
    model._symbolic_build(data_batch=batch)


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that the history calls loss."""
    return model._loss_tracker


def output_loss_trackers(model: keras.Model) -> list[keras.metrics.Mean]:
    """Returns the metrics of the single losses of a model with several outputs."""
    return [] if model._compile_loss is None else model._compile_loss.metrics


def losses(model: keras.Model) -> list[Callable]:
    """Returns the single losses of a built model."""
    return [] if model._compile_loss is None else [e.loss for e in model._compile_loss._flat_losses]


def replace_losses(model: keras.Model, replace: Callable[[Callable], Callable]) -> None:
    """Puts `replace(loss)` in the place of each loss of a built model."""
    if model._compile_loss is not None:
        model._compile_loss._flat_losses = [
            entry._replace(loss=replace(entry.loss)) for entry in model._compile_loss._flat_losses
        ]


def layers(model: keras.Model) -> list[keras.Layer]:
    """Returns the model's layers and theirs."""
    return list(model._flatten_layers())


def has_mask(output) -> bool:
    """Returns whether a Masking or Embedding layer marked some of a tensor's entries as void."""
    return getattr(output, "_keras_mask", None) is not None


def moving_averages(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the averages of the weights that a built optimizer with `use_ema` keeps."""
    return getattr(optimizer, "inner_optimizer", optimizer)._model_variables_moving_average


def apply(optimizer: keras.Optimizer, state: list, gradients: list, weights: list) -> tuple:
    """Returns the weights and the optimizer's state after a step, as tensors.

    It is `stateless_apply`, which Keras refuses on TensorFlow since its optimizers there sum the
    gradients of the replicas and update distributed variables as they go along. The methods of the
    class that all backends share do neither, so that clipping and all else see the reduced
    gradients (https://github.com/keras-team/keras/issues/20582).
    """
    with _functional(getattr(optimizer, "inner_optimizer", optimizer)):
        return optimizer.stateless_apply(state, gradients, weights)


@contextlib.contextmanager
def _functional(optimizer: keras.Optimizer) -> Iterator[None]:
    """Makes optimizers read and write the values of a `keras.StatelessScope`."""
    keys = {id(v): optimizer._var_key(v) for v in optimizer._trainable_variables}
    shared = (
        "assign",
        "assign_add",
        "assign_sub",
        "stateless_apply",
        "_apply_weight_decay",
        "_backend_update_step",
    )
    methods = {name: getattr(BaseOptimizer, name) for name in shared}
    methods["_var_key"] = lambda self, variable: keys[id(variable)]
    methods["_backend_apply_gradients"] = _apply_gradients
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock)
        for name, method in methods.items():
            stack.enter_context(mock.patch.object(TFOptimizer, name, method))
        yield


def _apply_gradients(self, gradients, variables):
    """`BaseOptimizer._backend_apply_gradients` without assignments in branches."""
    gradients = self._clip_gradients(gradients)
    self._apply_weight_decay(variables)
    self._backend_update_step(gradients, variables, self.learning_rate)
    if not self.use_ema:
        return
    self._update_model_variables_moving_average(self._trainable_variables)
    if self.ema_overwrite_frequency:
        now = (self.iterations + 1) % self.ema_overwrite_frequency == 0
        averages = self._model_variables_moving_average
        for variable, average in zip(self._trainable_variables, averages, strict=True):
            variable.assign(keras.ops.where(now, average, variable))


def is_seed(variable: keras.Variable) -> bool:
    """Whether it is the state of a `keras.random.SeedGenerator`."""
    return variable.name == "seed_generator_state"


def scale_learning_rate(
    optimizer: keras.Optimizer, factor: Callable[[keras.Variable], float]
) -> None:
    """Gives each variable a learning rate of its own, for the update and for weight decay.

    Keras has no public way to (https://github.com/keras-team/keras/issues/21741).

    Args:
        optimizer: An optimizer, before it is compiled.
        factor: Returns a variable's fraction of the learning rate.
    """
    update, uses_decay = optimizer.update_step, optimizer._use_weight_decay

    def update_step(gradient, variable, learning_rate):
        update(gradient, variable, learning_rate * factor(variable))

    def apply_weight_decay(variables):
        for variable in variables:
            if optimizer.weight_decay is not None and uses_decay(variable):
                rate = keras.ops.cast(optimizer.learning_rate * factor(variable), variable.dtype)
                decay = keras.ops.cast(optimizer.weight_decay, variable.dtype)
                variable.assign(variable - variable * decay * rate)

    optimizer.update_step = update_step
    optimizer._apply_weight_decay = apply_weight_decay
