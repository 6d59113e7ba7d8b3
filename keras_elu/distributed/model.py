"""A Keras model that trains correctly on any number of replicas."""

import functools
import inspect
import math
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from keras_elu.distributed.execution import StepScalars
from keras_elu.distributed.functions import Functions, Splitting
from keras_elu.distributed.resuming import Limit, Resumed
from keras_elu.distributed.strategies import scope
from keras_elu.steps import keras_internals, step
from keras_elu.steps.origin import is_keras

# The largest kernel of a dense layer, in elements, for which XLA is faster on a CPU. For larger
# ones, TensorFlow's own bfloat16 products are faster; in float16 they are faster at any size.
_LARGEST_KERNEL = {"float32": math.inf, "bfloat16": 2**18}
# The methods that DistributedModel replaces, with what to override instead.
_REPLACED = {
    "train_step": "compute_loss or call",
    "test_step": "compute_loss or call",
    "predict_step": "call",
    "make_train_function": "compute_loss or call",
    "make_test_function": "compute_loss or call",
    "make_predict_function": "call",
}


class DistributedModel(keras_internals.BuiltForSpec, keras.Model):
    """A model that trains and evaluates the same way on one replica, many replicas or many workers.

    Create and use it like any `keras.Model`, in the scope of its strategy. A batch is the global
    batch of all replicas, which share its rows as evenly as possible; with several workers, each
    must yield the same global batches. Each step has the loss, gradients, metrics and state of the
    global batch, under every strategy, precision and argument of `compile`. A model that mixes rows
    in a way that replicas cannot reproduce is refused before the first step. Only batch
    normalisation sees just the rows of its replica, as in Keras; its moving statistics are
    averaged. The model is saved as a plain Keras model.

    Example:

    >>> with keras_elu.training.strategy("default").scope():
    ...     inputs = keras.Input((3,))
    ...     model = DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    ...     model.compile("sgd", "mse", jit_compile=True, micro_batches=2, steps_per_execution=4)
    >>> model.fit(np.ones((10, 3)), np.ones((10, 1)), batch_size=4, verbose=0).epoch
    [0]
    """

    def __new__(cls, *arguments, **keywords):
        if cls is not DistributedModel:
            return super().__new__(cls)
        layers = [*arguments, *(keywords[name] for name in ("layers",) if name in keywords)]
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            return super().__new__(_Sequential)
        functional = keras_internals.is_functional(arguments, keywords)
        return super().__new__(_Functional if functional else cls)

    def __init__(self, *args, **kwargs):  # the names by which Keras knows a functional model
        made = isinstance(self, keras_internals.Functional | keras.Sequential)
        if not made and keras_internals.is_functional(args, kwargs):
            _make_functional(type(self))
        super().__init__(*args, **kwargs)

    _micro_batches: int | Literal["auto"] = 1

    def compile(
        self,
        *arguments,
        jit_compile: bool | Literal["auto"] = "auto",
        micro_batches: int | Literal["auto"] = 1,
        **keywords,
    ):
        """Configures the model for training, as `keras.Model.compile`, which has further arguments.

        Args:
            jit_compile: Whether XLA compiles the step. "auto" uses XLA if it can compile the step
                and is faster: on accelerators, and on a CPU for networks of dense layers in
                float32, or in bfloat16 with kernels of at most 2**18 elements.
            micro_batches: Number of parts in which a replica passes its rows of a training batch
                through the network, to save memory. The step is still that of the whole batch, but
                batch normalisation sees only the rows of a part. "auto" takes the least power of 2
                with which the step fits into memory.

        Raises:
            ValueError: If variables of the model, the optimizer or the metrics were not created in
                the scope of the model's strategy, if the model overrides a method that this class
                replaces, or if the arguments contradict each other.
        """
        self._check_overrides()
        if micro_batches != "auto" and not (
            isinstance(micro_batches, int)
            and not isinstance(micro_batches, bool)
            and micro_batches > 0
        ):
            raise ValueError(
                f'micro_batches must be "auto" or a positive whole number, not {micro_batches!r}.'
            )
        strategy = super().distribute_strategy
        auto = jit_compile == "auto"
        if auto:
            jit_compile = not keywords.get("run_eagerly") and _is_faster_compiled(self)
        synchronized = any(map(step.is_synchronized, keras_internals.layers(self)))
        if synchronized and strategy.num_replicas_in_sync > 1:
            if jit_compile or micro_batches != 1:
                raise ValueError(
                    "BatchNormalization(synchronized=True) sums over the replicas during the step, "
                    "which neither XLA nor micro-batches allow: set synchronized=False, or "
                    "jit_compile=False and micro_batches=1."
                )
            if type(self).compute_loss is not keras.Model.compute_loss:
                raise ValueError(
                    f"{type(self).__name__} overrides compute_loss, which does not work with "
                    "BatchNormalization(synchronized=True) on several replicas: pass a loss to "
                    "compile, or set synchronized=False."
                )
        with scope(strategy):
            super().compile(*arguments, jit_compile=jit_compile, **keywords)
        self._check_optimizer()
        self._micro_batches = micro_batches
        self._made = Functions(self, strategy, micro_batches, _is_faster_compiled if auto else None)
        self._made.check_scope()

    def _check_optimizer(self):
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        parts = [self.optimizer, inner, *getattr(inner, "optimizers", [])]
        for part in (part for part in parts if part is not None):
            if number := getattr(part, "gradient_accumulation_steps", None):
                raise ValueError(
                    f"The optimizer has gradient_accumulation_steps={number}, but DistributedModel "
                    f"accumulates gradients itself: remove it, multiply the batch size by {number} "
                    f"and pass micro_batches={number} to compile."
                )
            if not is_keras(type(part).apply_gradients):
                raise ValueError(
                    f"{type(part).__name__} overrides apply_gradients, which DistributedModel does "
                    "not call: override apply instead."
                )

    def _check_overrides(self):
        for name, instead in _REPLACED.items():
            own = getattr(DistributedModel, name), getattr(keras.Model, name)
            of_instance = name.endswith("_step") and name in vars(self)
            if of_instance or getattr(type(self), name) not in own:
                raise ValueError(
                    f"{type(self).__name__} overrides {name}, which DistributedModel does not "
                    f"call: override {instead} instead, or subclass keras.Model."
                )

    @property
    def _functions(self) -> Functions:
        if getattr(self, "_made", None) is None:  # not compiled, and not used before
            self._made = Functions(self, super().distribute_strategy)
        return self._made

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy in whose scope the model was created; it splits batches evenly by rows."""
        return Splitting(super().distribute_strategy, self._functions)

    @property
    def step_scalars(self) -> StepScalars:
        """The scalars of every step of the latest execution.

        `names` has their names, and `rows` has a row for each step; see
        `keras_elu.steps.step_scalars`.
        """
        return self._functions.scalars

    def fit(self, *arguments, initial_step: int = 0, **keywords):
        """Trains the model, as `keras.Model.fit`, which has further arguments.

        Args:
            initial_step: Number of steps of `initial_epoch` that an earlier attempt has done. The
                data must be endless and start after them. `keras_elu.training.Checkpoints` restores
                everything else.
        """
        return self._call(keras.Model.fit, arguments, keywords, initial_step)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, *arguments, **keywords):
        return self._call(keras.Model.evaluate, arguments, keywords)

    def _call(self, method, arguments, keywords, initial_step=0):
        if not self.compiled:  # Keras says so
            return method(self, *arguments, **keywords)
        bound = inspect.signature(method).bind(self, *arguments, **keywords)
        given = bound.arguments
        data = [given.get("x"), given.get("validation_data")]
        if any(isinstance(x, tf.distribute.DistributedDataset) for x in data):
            raise ValueError(
                "The data set is already distributed: pass the tf.data.Dataset of global batches, "
                "and the model distributes it."
            )
        callbacks = given.get("callbacks")
        inside = isinstance(callbacks, keras.callbacks.CallbackList)  # evaluate in fit
        if not (inside and any(isinstance(callback, Limit) for callback in callbacks.callbacks)):
            given["callbacks"] = self._limited(given, callbacks, initial_step)
        return method(*bound.args, **bound.kwargs)

    def _limited(self, given, callbacks, initial_step):
        """Returns the callbacks, preceded by the one that limits the steps of an execution."""
        steps = given.get("steps_per_epoch")
        limit = Limit(
            self._functions,
            steps,
            given.get("validation_steps", given.get("steps")),
            given.get("initial_epoch", 0),
            initial_step,
        )
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(limit)
            return callbacks
        callbacks = [limit, *tf.nest.flatten(callbacks or [])]
        if not initial_step:
            return callbacks
        data = given.get("x")
        endless = isinstance(data, tf.data.Dataset) and int(data.cardinality()) < 0
        if steps is None or not endless:
            raise ValueError(
                "initial_step needs steps_per_epoch and an endless data set: pass steps_per_epoch, "
                "and a tf.data.Dataset with .repeat()."
            )
        verbose = given.get("verbose", "auto")
        return Resumed(
            limit,
            callbacks,
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=given.get("epochs", 1),
            steps=steps,
            model=self,
        )

    def predict_on_batch(self, x) -> np.ndarray:
        """Returns the outputs for one batch, as `keras.Model.predict_on_batch`."""
        self.make_predict_function()
        outputs = self.predict_function.on_batch(x)
        return tf.nest.map_structure(
            lambda t: t.numpy() if isinstance(t, tf.Tensor) else t, outputs
        )

    # Methods that Keras calls to save and load.

    def get_compile_config(self):
        config = _CompileConfig(super().get_compile_config())
        config.micro_batches = self._micro_batches
        if config and not isinstance(self, _Plain):  # which is loaded as a plain Keras model
            config["micro_batches"] = self._micro_batches
        return config

    def compile_from_config(self, config):
        arguments = keras.saving.deserialize_keras_object(dict(config))
        arguments.setdefault("micro_batches", getattr(config, "micro_batches", 1))
        self.compile(**arguments)
        if self.optimizer is not None and self.built:
            with scope(super().distribute_strategy):
                self.optimizer.build(self.trainable_variables)

    def __reduce__(self):
        _, saved = super().__reduce__()
        return keras_internals.unpickled, saved

    def __copy__(self):
        return self.__deepcopy__({})

    def __deepcopy__(self, memo):
        _, saved = super().__reduce__()
        model = keras_internals.unpickled(*saved)
        if isinstance(self, _Plain):
            model.__class__ = type(self)
            model._micro_batches = self._micro_batches
            if model.compiled:
                strategy = super(DistributedModel, model).distribute_strategy
                model._made = Functions(model, strategy, model._micro_batches)
        return model

    # Methods that Keras calls to prepare its loops.

    @property
    def is_built_for_data(self) -> bool:
        return self._functions.built

    def build_for(self, batch=None):
        self._functions.build(batch)

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            self._check_overrides()
            self._check_optimizer()  # in a MultiOptimizer, some are made since
            self.train_function = self._functions.train_function()

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self._check_overrides()
            self.test_function = self._functions.test_function()

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            self._check_overrides()
            self._functions.build_layers()
            self.predict_function = self._functions.predict_function()


class _CompileConfig(dict):
    """A compile configuration; `micro_batches` is kept in copies, but not in files."""

    micro_batches: int | Literal["auto"] = 1


class _Plain:
    """A form of `DistributedModel` that Keras saves as one of its own classes."""


class _Functional(_Plain, DistributedModel, keras_internals.Functional):
    """A functional `DistributedModel`."""


class _Sequential(_Plain, DistributedModel, keras.Sequential):
    """A sequential `DistributedModel`."""


for _form, _own in ((_Functional, keras_internals.Functional), (_Sequential, keras.Sequential)):
    _form.__name__, _form.__module__ = _own.__name__, _own.__module__
    _form.__qualname__ = DistributedModel.__name__


def _make_functional(cls: type) -> None:
    """Makes the instances of a subclass functional models, as Keras does for `keras.Model`."""
    if DistributedModel in cls.__bases__:
        cls.__bases__ = tuple(
            _SubclassedFunctional if base is DistributedModel else base for base in cls.__bases__
        )
        return
    for base in cls.__bases__:
        if issubclass(base, DistributedModel) and not issubclass(base, keras_internals.Functional):
            _make_functional(base)


class _SubclassedFunctional(DistributedModel, keras_internals.Functional):
    """The base of subclasses of `DistributedModel` that are functional models."""


def _is_faster_compiled(model: keras.Model) -> bool:
    """Returns whether XLA can compile the model and is faster; convolutions on a CPU are not."""
    layers = keras_internals.layers(model)
    if any(map(step.is_synchronized, layers)) or not keras_internals.model_supports_jit(model):
        return False
    if not keras_internals.is_built(model):
        return False  # decided when the model is built
    if tf.config.list_logical_devices("GPU"):
        return True
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    largest = {id(layer.kernel): _LARGEST_KERNEL.get(layer.compute_dtype, 0) for layer in dense}
    kernels = [weight for weight in model.weights if len(weight.shape) > 1]
    return bool(kernels) and all(
        math.prod(kernel.shape) <= largest.get(id(kernel), 0) for kernel in kernels
    )
