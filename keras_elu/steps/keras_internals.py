"""Everything that uses Keras's private API.

Keras 3.14 and 3.15 have no public way to build a model for its data without reading a batch, to
apply an optimizer to tensors on TensorFlow, to read the individual losses of `compile`, to see what
the layers of a model add and assign, or to learn whether XLA may compile a model. The workarounds
are here and nowhere else, and they accept only the versions that the tests run on.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import tensorflow as tf
from keras.src.backend import compute_output_spec
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.losses.losses import LossFunctionWrapper  # noqa: F401
from keras.src.models.functional import Functional  # noqa: F401
from keras.src.models.model import functional_init_arguments
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.trainers.trainer import model_supports_jit  # noqa: F401

from keras_elu.steps import isolated

_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))
if not (3, 14) <= _VERSION <= (3, 15):
    raise ImportError(
        f"keras_elu.training works with Keras 3.14 and 3.15, not {keras.__version__}: install "
        "'keras>=3.14,<3.16'."
    )

_lock = threading.Lock()


def is_functional(arguments: tuple, keywords: dict) -> bool:
    """Returns whether the arguments of a model class are those of a functional model."""
    return functional_init_arguments(arguments, keywords)


# Returns the model that Keras has pickled; a pickle that refers to it needs no keras_elu.
unpickled = keras.Model._unpickle_model


class BuiltForSpec:
    """A mixin for models that are built from the `tf.TypeSpec`s of a batch.

    Keras calls its only method at the start of `fit`, `evaluate`, `train_on_batch` and
    `test_on_batch`. A class with this mixin defines `is_built_for_data`, and `build_for`, which
    takes the `tf.TypeSpec`s of a batch, or None for those of the last distributed data set.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if not self.is_built_for_data:
            given = None if data_batch is None else isolated.tensors(data_batch)
            self.build_for(tf.nest.map_structure(isolated.spec, given))


def build(model: keras.Model, batch) -> None:
    """Creates every variable of the model, the optimizer, the metrics and the losses.

    Keras instead reads a batch and discards it, which fails with several workers
    (https://github.com/keras-team/keras/issues/20585).

    Args:
        model: A compiled model.
        batch: The `tf.TypeSpec`s of a batch.
    """
    metrics, loss = model._compile_metrics, model._compile_loss
    parts = [part for part in (metrics, loss) if part is not None]
    if not (is_built(model) and all(part.built for part in parts)):
        batch = tf.nest.map_structure(_symbolic, batch)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = compute_output_spec(model, x, training=False)
        if metrics is not None and not metrics.built:
            compute_output_spec(model.compute_metrics, x, y, y_pred, sample_weight=sample_weight)
        if loss is not None and not loss.built:
            compute_output_spec(
                model._compute_loss, x, y, y_pred, sample_weight=sample_weight, training=False
            )
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model._post_build()


def build_layers(model: keras.Model, batch) -> None:
    """Creates every variable of the model's layers; `batch` is as for `build`."""
    if not is_built(model):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(tf.nest.map_structure(_symbolic, batch))
        compute_output_spec(model, x, training=False)


def is_built(model: keras.Model) -> bool:
    """Returns whether all variables of the layers exist."""
    return all(layer.built for layer in model._flatten_layers())


def _symbolic(spec: tf.TypeSpec) -> keras.KerasTensor:
    form = {"sparse": True} if isinstance(spec, tf.SparseTensorSpec) else {}
    if isinstance(spec, tf.RaggedTensorSpec):
        splits = spec.row_splits_dtype.name
        form = {"ragged": True, "ragged_rank": spec.ragged_rank, "row_splits_dtype": splits}
    return keras.KerasTensor(spec.shape, spec.dtype.name, **form)


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that the history calls loss."""
    return model._loss_tracker


def output_loss_trackers(model: keras.Model) -> list[keras.metrics.Mean]:
    """Returns the metrics of the individual losses of a model with several outputs."""
    return [] if model._compile_loss is None else model._compile_loss.metrics


def losses(model: keras.Model) -> list[keras.Loss]:
    """Returns the individual losses of a compiled model; none where `compute_loss` ignores them."""
    return [entry.loss for entry in getattr(model._compile_loss, "_flat_losses", None) or []]


def replace_losses(model: keras.Model, replace: Callable[[Callable, int], Callable]) -> None:
    """Replaces each loss of a built model by `replace(loss, number)`."""
    if entries := getattr(model._compile_loss, "_flat_losses", None):
        model._compile_loss._flat_losses = [
            entry._replace(loss=replace(entry.loss, number)) for number, entry in enumerate(entries)
        ]


def layers(model: keras.Layer) -> list[keras.Layer]:
    """Returns the model and all layers in it, at any depth."""
    return list(model._flatten_layers())


def operations(model: keras.Layer) -> list[keras.Operation]:
    """Returns the operations in a functional model that are not layers."""
    found = [op for layer in layers(model) for op in getattr(layer, "_operations", [])]
    return [op for op in found if not isinstance(op, keras.Layer)]


@contextlib.contextmanager
def inference(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Makes layers compute as in inference, even where the model is called for training."""

    def replacement(layer):
        return lambda *inputs, **keywords: type(layer).call(
            layer, *inputs, **{**keywords, "training": False}
        )

    changed = [x for x in layers if x._call_has_training_arg and "call" not in vars(x)]
    for layer in changed:
        vars(layer)["call"] = replacement(layer)
    try:
        yield
    finally:
        for layer in changed:
            del vars(layer)["call"]


def mask(tensor) -> tf.Tensor | None:
    """Returns the mask of a tensor: which of its entries are valid. None: all."""
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor, mask: tf.Tensor) -> None:
    """Sets the mask of a tensor."""
    tensor._keras_mask = mask


def compiled_metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """Returns the metrics given to `compile`, of a built model."""
    return [] if model._compile_metrics is None else model._compile_metrics.metrics


def update_compiled_metrics(model: keras.Model, y, y_pred, sample_weight) -> None:
    """Updates only the metrics given to `compile`."""
    model._compile_metrics.update_state(y, y_pred, sample_weight)


def own_metrics(model: keras.Model) -> set[int]:
    """Returns the identities of the metrics that `compile` created or was given."""
    metrics = [loss_tracker(model), *output_loss_trackers(model)]
    return {id(m) for m in [*metrics, model._compile_metrics, *compiled_metrics(model)]}


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer, without those of its sublayers."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def adder(layers: list[keras.Layer], loss: tf.Tensor) -> keras.Layer | None:
    """Returns the layer that has added a loss in the current `keras.StatelessScope`."""
    return next((layer for layer in layers if id(loss) in layer._loss_ids), None)


def call(model: keras.Model, x, training: bool):
    """Calls a model, which need not have an argument `training`."""
    return model(x, **({"training": training} if model._call_has_training_arg else {}))


def compute_loss(model: keras.Model, x, y, y_pred, sample_weight, training: bool) -> tf.Tensor:
    """Calls the model's `compute_loss`, which need not have an argument `training`."""
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


def added_losses() -> list[tf.Tensor]:
    """Returns the losses that layers have added in the current `keras.StatelessScope`."""
    return get_stateless_scope().losses


class Recording(keras.StatelessScope):
    """A `keras.StatelessScope` that records the assigned variables."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.assigned = {}

    def add_update(self, update):
        variable, value = update
        self.assigned[id(variable)] = variable
        super().add_update((variable, self.revised(variable, value)))

    def revised(self, variable: keras.Variable, value: tf.Tensor) -> tf.Tensor:
        """Returns the value to store for an assignment."""
        return value


def moving_averages(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the moving averages of the weights of a built optimizer with `use_ema`."""
    return getattr(optimizer, "inner_optimizer", optimizer)._model_variables_moving_average


def apply(
    optimizer: keras.Optimizer,
    variables: Sequence[keras.Variable],
    state: list,
    gradients: list,
    weights: list,
) -> tuple:
    """Returns the weights and the optimizer's state after a step, as tensors.

    This is `stateless_apply`, which Keras refuses on TensorFlow: its optimizers there sum the
    gradients over the replicas and update distributed variables themselves. The methods of the base
    class of all backends do neither. Clipping, like everything else, then sees the reduced
    gradients (https://github.com/keras-team/keras/issues/20582).

    Args:
        optimizer: A built optimizer.
        variables: Variables that it was built with: fewer than all if some were frozen since.
        state: Values of the optimizer's variables.
        gradients: Gradients of the variables.
        weights: Values of the variables.

    Raises:
        ValueError: With one sentence, if the optimizer does not fit the variables.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    known = {id(variable) for variable in inner._trainable_variables}
    if new := [variable.path for variable in variables if id(variable) not in known]:
        raise ValueError(
            f"The optimizer was built without {new[0]}, which is to be trained: compile the model "
            "with a new optimizer."
        )
    if inner.use_ema and len(variables) < len(known):
        raise ValueError(
            "The optimizer keeps moving averages of weights that have been frozen: compile the "
            "model with a new optimizer."
        )
    with _functional(inner, variables):
        return optimizer.stateless_apply(state, gradients, weights)


@contextlib.contextmanager
def _functional(optimizer: keras.Optimizer, variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Makes optimizers read and write the values of a `keras.StatelessScope`."""

    def stateless_apply(self, state, gradients, weights):
        """`BaseOptimizer.stateless_apply` for the given variables instead of all."""
        pairs = [*zip(variables, weights, strict=True), *zip(self.variables, state, strict=True)]
        with keras.StatelessScope(pairs) as scope:
            self.apply(gradients, variables)
        return tuple(
            [scope.get_current_value(variable) for variable in group]
            for group in (variables, self.variables)
        )

    keys = {id(v): optimizer._var_key(v) for v in optimizer._trainable_variables}
    shared = (
        "assign",
        "assign_add",
        "assign_sub",
        "_apply_weight_decay",
        "_backend_update_step",
    )
    methods = {name: getattr(BaseOptimizer, name) for name in shared}
    methods["stateless_apply"] = stateless_apply
    methods["_var_key"] = lambda self, variable: keys[id(variable)]
    methods["_backend_apply_gradients"] = _apply_gradients
    with _lock:
        replaced = {name: vars(TFOptimizer)[name] for name in methods if name in vars(TFOptimizer)}
        try:
            for name, method in methods.items():
                setattr(TFOptimizer, name, method)
            yield
        finally:
            for name in methods:
                if name in replaced:
                    setattr(TFOptimizer, name, replaced[name])
                else:
                    delattr(TFOptimizer, name)


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
    """Returns whether a variable is the state of a `keras.random.SeedGenerator`."""
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
