"""The functions with which a model trains, evaluates and predicts under its strategy."""

import re
from collections.abc import Callable
from typing import ClassVar, Literal

import keras
import tensorflow as tf

from keras_elu.distributed import strategies
from keras_elu.distributed.execution import Execution, PredictExecution, StepScalars
from keras_elu.steps import batches, keras_internals, origin, pieces, step, trials
from keras_elu.steps.isolated import relaxed


class Functions:
    """Creates the functions that train, evaluate and predict.

    Args:
        model: A model.
        strategy: The strategy in whose scope the model was created.
        micro_batches: As for `keras_elu.training.DistributedModel.compile`.
        auto_jit: Returns for a built model whether XLA compiles the step; None: as compiled.

    Raises:
        ValueError: If the process has another strategy of several replicas.

    Attributes:
        steps: Number of steps of the next execution.
        scalars: The scalars of the latest execution.
        built: Whether all variables exist.
    """

    _strategies: ClassVar[dict[tuple[str, ...], tf.distribute.Strategy]] = {}  # by their devices

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        micro_batches: int | Literal["auto"] = 1,
        auto_jit: Callable[[keras.Model], bool] | None = None,
    ):
        self.model = model
        self.strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        self.steps = model.steps_per_execution
        self.scalars = StepScalars((), None)
        self._micro_batches = micro_batches
        self._auto_jit = auto_jit
        self.built = False
        self._batch = None  # tf.TypeSpecs of the data set that was distributed last
        self._refuse_second_strategy()

    def _refuse_second_strategy(self):
        """TensorFlow numbers the collectives of every strategy from 100 on, and confuses them."""
        if self.replicas == 1:
            return
        devices = self.strategy.extended.worker_devices
        if self._strategies.setdefault(devices, self.strategy) is not self.strategy:
            raise ValueError(
                "This process already has another strategy on the same devices, and TensorFlow "
                'confuses the two: use keras_elu.training.strategy("mirrored"), which always '
                "returns the same object."
            )

    def distribute(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the batches of a data set, split between the replicas."""
        self._batch = dataset.element_spec
        self._refuse_composite(self._batch, self.replicas)
        return self.strategy.distribute_datasets_from_function(
            lambda context: batches.cut(dataset, context)
        )

    def build(self, batch=None) -> None:
        """Creates all variables that do not exist yet.

        Args:
            batch: The `tf.TypeSpec`s of a batch; None: those of the last distributed data set.
        """
        if self.built:
            return
        if batch is not None:
            self._batch = batch
        batch = self._batch
        self._refuse_composite(batch, self.replicas)
        with strategies.scope(self.strategy):
            keras_internals.build(self.model, tf.nest.map_structure(relaxed, batch))
        pieces.replace_losses(self.model)
        self.check_scope()
        self._decide_jit(batch)
        self.built = True

    def build_layers(self) -> None:
        """Creates the variables of a model that is not compiled."""
        if self._batch is not None:
            with strategies.scope(self.strategy):
                keras_internals.build_layers(
                    self.model, tf.nest.map_structure(relaxed, self._batch)
                )

    def check_scope(self) -> None:
        """Raises `ValueError` if a variable was not created in the strategy's scope."""
        if self.replicas == 1:
            return
        optimizer = self.model.optimizer
        owned = {
            "model": self.model.variables,
            "optimizer": optimizer.variables if optimizer is not None else [],
            "metrics": self.model.metrics_variables,
        }
        for owner, variables in owned.items():
            for variable in variables:
                if not self.strategy.extended.variable_created_in_scope(variable.value):
                    raise ValueError(
                        f"The variable {variable.path} of the {owner} was created outside the "
                        "scope of the model's strategy: create the model, its layers, its "
                        "optimizer and its metrics inside `with strategy.scope():`."
                    )

    def _refuse_composite(self, batch, number: int) -> None:
        """Raises `ValueError` if the rows of a batch cannot be split into a number of pieces."""
        if number == 1:
            return
        dense = {"RaggedTensor": "to_tensor()", "SparseTensor": "tf.sparse.to_dense"}
        for part in tf.nest.flatten(batch):
            if isinstance(part, tf.RaggedTensorSpec | tf.SparseTensorSpec):
                name = part.value_type.__name__
                raise ValueError(
                    f"The data has a {name}, whose rows cannot be split into {number} pieces: "
                    f"convert it with {dense[name]}, or {origin.ON_ONE}."
                )

    def _decide_jit(self, batch) -> None:
        """Resolves `jit_compile="auto"`, without XLA if it cannot compile the step."""
        model = self.model
        if self._auto_jit is None or model.run_eagerly:
            return
        model.jit_compile = self._auto_jit(model)
        if not model.jit_compile or origin.is_all_keras(model):
            return

        def rows(part):
            shape = [length or 2 * self.replicas for length in part.shape]
            return tf.TensorSpec(shape, part.dtype)

        micro_batches = self._micro_batches if isinstance(self._micro_batches, int) else 1
        trial = self.step(batch, training=model.optimizer is not None, micro_batches=micro_batches)
        try:
            trial.check_xla(tf.nest.map_structure(rows, batch))
        except Exception as error:  # XLA's, or the model's own, which the step will raise again
            model.jit_compile = False
            if self.strategy.extended.should_checkpoint:  # the chief
                found = re.search(r"on XLA_\w+: (\w+)", str(error))
                what = found[1] if found else f"the step ({trials.first_line(error)})"
                print(f'jit_compile="auto" runs without XLA, which cannot compile {what}')

    def step(self, batch, *, training: bool, micro_batches: int) -> step.Step:
        """Returns the step for batches of the `tf.TypeSpec`s `batch`."""
        self._refuse_composite(batch, micro_batches)
        return step.Step(
            self.model,
            batch,
            replicas=self.replicas,
            training=training,
            jit_compile=self.model.jit_compile,
            micro_batches=micro_batches,
        )

    def train_function(self) -> Execution:
        return Execution(self, training=True, micro_batches=self._fitting_micro_batches())

    def test_function(self) -> Execution:
        return Execution(self, training=False, micro_batches=1)

    def predict_function(self) -> PredictExecution:
        return PredictExecution(self)

    def _fitting_micro_batches(self) -> int:
        """Returns the number given to `compile`, or for "auto" the least that fits into memory."""
        if self._micro_batches != "auto":
            return self._micro_batches
        rows = None if self._batch is None else tf.nest.flatten(self._batch)[0].shape[0]
        if rows is None:
            raise ValueError(
                'micro_batches="auto" needs a fixed batch size: batch the data set with '
                "drop_remainder=True, or pass a number."
            )
        rows = -(-rows // self.replicas)
        zeros = tf.nest.map_structure(
            lambda spec: tf.zeros([rows, *spec.shape[1:]], spec.dtype), self._batch
        )
        number = 1
        while not self._fits(zeros, number):
            if number >= rows:
                raise ValueError(
                    "The step does not fit into memory even one example at a time: make the model "
                    "or its input smaller."
                )
            number *= 2
        if self.strategy.extended.should_checkpoint:  # the chief
            print(
                f"micro-batches: {number}, of {-(-rows // number)} of a replica's {rows} examples"
            )
        self._micro_batches = number
        return number

    def _fits(self, batch, number: int) -> bool:
        trial = self.step(self._batch, training=True, micro_batches=number)
        try:
            tf.function(lambda: self.strategy.run(trial.rehearse, args=(batch,)), autograph=False)()
            fits = 1
        except tf.errors.ResourceExhaustedError:
            fits = 0
        with strategies.scope(self.strategy):
            everywhere = self.strategy.run(
                lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(fits))
            )
        return int(self.strategy.experimental_local_results(everywhere)[0]) == self.replicas

    def function(self, python_function: Callable) -> Callable:
        """Returns a function of tensors as a graph, unless the model runs eagerly."""
        if self.model.run_eagerly:
            return python_function
        return tf.function(python_function, autograph=False, reduce_retracing=True)

    def own_rows(self, batch):
        """Returns this replica's rows of a batch that is the same on all replicas."""
        if self.replicas == 1:
            return batch
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return batches.part(batch, replica, self.replicas)


class Splitting:
    """A strategy that splits batches evenly by rows.

    `tf.distribute` leaves the last replicas without rows if the size of a batch is not a multiple
    of their number (https://github.com/tensorflow/tensorflow/issues/41657).
    """

    def __init__(self, strategy: tf.distribute.Strategy, functions: Functions):
        self._strategy = strategy
        self._functions = functions

    def experimental_distribute_dataset(self, dataset, options=None):
        return self._functions.distribute(dataset)

    def __getattr__(self, name):
        return getattr(self._strategy, name)
