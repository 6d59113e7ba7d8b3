"""A Keras model whose step is right on any number of replicas."""

import functools
import inspect
import math
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from keras_elu.distributed import keras_internals, step
from keras_elu.distributed.execution import Execution, Splitting
from keras_elu.distributed.resuming import Limit, Resumed
from keras_elu.distributed.strategies import scope

# Numbers of a dense layer's kernel up to which XLA is the faster on a CPU. Of larger ones, products
# in bfloat16 by TensorFlow's own kernels make up for all else; in float16 they do at any size.
_LARGEST_KERNEL = {"float32": math.inf, "bfloat16": 2**18}


class DistributedModel(keras_internals.BuiltForSpec, keras.Model):
    """A model that trains and evaluates alike on one replica, on several and on several workers.

    It is made and used as any `keras.Model`, in the scope of its strategy. A batch is the global
    one, of all replicas together, which are given its rows as evenly as it goes; under several
    workers each must yield the same global batches. A step then has the loss, the gradients and the
    metrics of the global batch, whatever the strategy, the precision and the arguments of
    `compile`; `keras_elu.distributed.step` says how. Only batch normalisation sees its own
    replica's rows, as in Keras; its moving statistics are averaged over the replicas. `save`
    writes a plain Keras model.

    Example:

    >>> with keras_elu.training.strategy("default").scope():
    ...     inputs = keras.Input((3,))
    ...     model = DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    ...     model.compile("sgd", "mse", jit_compile=True, micro_batches=2, steps_per_execution=4)
    >>> model.fit(np.ones((10, 3)), np.ones((10, 1)), batch_size=4, verbose=0).epoch
    [0]
    """

    def compile(
        self,
        *arguments,
        jit_compile: bool | Literal["auto"] = "auto",
        micro_batches: int | Literal["auto"] = 1,
        **keywords,
    ):
        """Configures the model for training, as `keras.Model.compile`, which has further arguments.

        Args:
            jit_compile: Whether XLA compiles the step; "auto": where that is faster, which is on
                accelerators, and on a CPU for networks of dense layers in float32, and in bfloat16
                where no kernel has more than 2**18 numbers.
            micro_batches: Number of parts in which a replica passes its rows of a training batch
                through the network, to need less memory. The step is that of the whole batch; batch
                normalisation sees the rows of a part, as it does those of a replica. "auto": the
                least power of 2 with which the step fits into memory.

        Raises:
            ValueError: If variables of the model, the optimizer or the metrics were not created in
                the scope of the model's strategy, or the arguments do not fit together.
        """
        if micro_batches != "auto" and not (isinstance(micro_batches, int) and micro_batches > 0):
            raise ValueError(
                f'micro_batches must be "auto" or a positive int, not {micro_batches!r}.'
            )
        strategy = super().distribute_strategy
        synchronized = any(map(step.is_synchronized, keras_internals.layers(self)))
        if jit_compile == "auto":
            possible = not synchronized and not keywords.get("run_eagerly")
            jit_compile = possible and _is_faster_compiled(self)
        if (
            synchronized
            and strategy.num_replicas_in_sync > 1
            and (jit_compile or micro_batches != 1)
        ):
            raise ValueError(
                "BatchNormalization(synchronized=True) sums over the replicas during the step, "
                "which neither XLA nor micro-batches allow: set synchronized=False, or "
                "jit_compile=False and micro_batches=1."
            )
        with scope(strategy):
            super().compile(*arguments, jit_compile=jit_compile, **keywords)
        self._execution = Execution(self, strategy, micro_batches)
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if optimizer is not None and optimizer.gradient_accumulation_steps:
            raise ValueError(
                f"The optimizer has gradient_accumulation_steps="
                f"{optimizer.gradient_accumulation_steps}: multiply the batch size by it, and give "
                "it to compile as micro_batches instead."
            )
        self._execution.check_scope()

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy in whose scope the model was made; it cuts batches by examples."""
        strategy = super().distribute_strategy
        return Splitting(strategy, self._execution) if self.compiled else strategy

    @property
    def step_scalars(self) -> tuple[tuple[str, ...], np.ndarray]:
        """The names of what is kept of every step of training, and a row for each of the latest.

        The latest are those of the last execution; see `keras_elu.distributed.step_scalars`.
        """
        return self._execution.scalar_names, self._execution.scalars

    def fit(self, *arguments, initial_step: int = 0, **keywords):
        """As `keras.Model.fit`, which has further arguments.

        Args:
            initial_step: Steps of `initial_epoch` that an earlier attempt has done; the data must
                begin after them, and be endless. `keras_elu.training.Checkpoints` restores what
                else it needs.
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
                "The data set is distributed already: give the tf.data.Dataset of global batches, "
                "which the model distributes itself."
            )
        callbacks = given.get("callbacks")
        inside = isinstance(callbacks, keras.callbacks.CallbackList)  # evaluate in fit
        if not (inside and any(isinstance(callback, Limit) for callback in callbacks.callbacks)):
            given["callbacks"] = self._limited(given, callbacks, initial_step)
        return method(*bound.args, **bound.kwargs)

    def _limited(self, given, callbacks, initial_step):
        """The callbacks, and before them the one that says how many steps an execution has."""
        steps = given.get("steps_per_epoch")
        limit = Limit(
            self._execution,
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
                "initial_step needs steps_per_epoch and endless data: give the length of an epoch "
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

    def save(self, *arguments, **keywords):
        """Saves a plain Keras model, as `keras.Model.save` does."""
        cls = type(self)
        functional = next((c for c in cls.__mro__ if c.__name__ == "Functional"), None)
        if cls is DistributedModel and functional is not None:
            self.__class__ = functional
        try:
            return keras.Model.save(self, *arguments, **keywords)
        finally:
            self.__class__ = cls

    # What Keras calls to prepare its loops.

    def build_for(self, spec=None):
        self._execution.build(self._execution.batch_spec if spec is None else spec)

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            self.train_function = self._execution.function(training=True)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._execution.function(training=False)

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            self.predict_function = self._execution.predict_function()


def _is_faster_compiled(model: keras.Model) -> bool:
    """Whether XLA is to compile the model's step; on a CPU its convolutions take twice as long."""
    layers = keras_internals.layers(model)
    if not all(layer.supports_jit for layer in layers):
        return False
    if tf.config.list_logical_devices("GPU"):
        return True
    dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
    largest = {id(layer.kernel): _LARGEST_KERNEL.get(layer.compute_dtype, 0) for layer in dense}
    kernels = [weight for weight in model.weights if len(weight.shape) > 1]
    return bool(kernels) and all(
        math.prod(kernel.shape) <= largest.get(id(kernel), 0) for kernel in kernels
    )
