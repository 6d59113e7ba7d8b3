"""How steps are run: batches cut for the replicas, several steps to an execution."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_elu.distributed import batches, keras_internals, pieces, step, step_scalars, strategies


class NonFiniteLoss(ArithmeticError):
    """The loss is not finite any more.

    Attributes:
        step: The first step of training, counted from 1, whose loss was not.
    """

    def __init__(self, step: int):
        super().__init__(f"The loss of step {step:,} is not finite.")
        self.step = step


class Execution:
    """The functions that Keras calls for each of its executions, one or more steps.

    Args:
        model: A compiled model.
        strategy: The strategy in whose scope it was made.
        micro_batches: As for `keras_elu.training.DistributedModel.compile`.

    Raises:
        ValueError: If the process has another strategy of several replicas.
    """

    _strategies: ClassVar[dict[tuple[str, ...], tf.distribute.Strategy]] = {}  # by their devices

    def __init__(
        self,
        model: keras.Model,
        strategy: tf.distribute.Strategy,
        micro_batches: int | Literal["auto"],
    ):
        self._model = model
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self._built = False
        self._refuse_second_strategy()
        self.micro_batches = micro_batches
        self.batch_spec = None  # of the latest data set that was distributed
        self.steps = model.steps_per_execution  # of the next call
        self.scalar_names = ()
        self.scalars = None  # of the latest call: an array, with a row of them for each step

    def _refuse_second_strategy(self):
        """TensorFlow numbers the sums of each strategy from 100 on, and takes them for the same."""
        if self._replicas == 1:
            return
        devices = self._strategy.extended.worker_devices
        if self._strategies.setdefault(devices, self._strategy) is not self._strategy:
            raise ValueError(
                "Another strategy was made before on the same devices, with which TensorFlow would "
                'mistake this one: use keras_elu.training.strategy("mirrored") in the whole '
                "process, which is always the same one."
            )

    def distribute(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the batches of a data set cut for the replicas."""
        self.batch_spec = dataset.element_spec
        return self._strategy.distribute_datasets_from_function(
            lambda context: batches.cut(dataset, context)
        )

    def build(self, spec) -> None:
        """Creates all variables that do not exist yet, for batches of the `tf.TypeSpec`s `spec`."""
        if self._built:
            return
        spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), spec)
        with strategies.scope(self._strategy):
            keras_internals.build(self._model, spec)
        keras_internals.replace_losses(self._model, pieces.of_piece)
        self.check_scope()
        self._built = True

    def check_scope(self) -> None:
        """Raises `ValueError` if a variable was not created in the strategy's scope."""
        if self._replicas == 1:
            return
        optimizer = self._model.optimizer
        owned = {
            "model": self._model.variables,
            "optimizer": optimizer.variables if optimizer is not None else [],
            "metrics": self._model.metrics_variables,
        }
        for owner, variables in owned.items():
            for variable in variables:
                if not self._strategy.extended.variable_created_in_scope(variable.value):
                    raise ValueError(
                        f"The variable {variable.path} of the {owner} was created outside of the "
                        "scope of the model's strategy: make the model, its layers, its optimizer "
                        "and its metrics in `with strategy.scope():`."
                    )

    def function(self, *, training: bool) -> Callable[[Any], dict]:
        """Returns the function that runs the next `steps` steps on an iterator's batches.

        It returns the metrics since their last reset, and raises `StopIteration` where no batch is
        left, and `NonFiniteLoss`.
        """
        model, strategy = self._model, self._strategy
        one = step.Step(
            model,
            replicas=self._replicas,
            training=training,
            jit_compile=model.jit_compile,
            micro_batches=self._fitting_micro_batches() if training else 1,
        )

        kept = step_scalars.StepScalars(model, training)

        def loss_of(batch):
            return strategy.experimental_local_results(strategy.run(one, args=(batch,)))[0]

        def step_of(iterator):
            """A row with the scalars of a step; no row if there is no batch."""
            batch, there, waited = step_scalars.timed(
                iterator.get_next_as_optional, lambda batch: batch.has_value()
            )

            def do():
                with strategies.scope(strategy):
                    first = kept.before()
                loss = loss_of(batch.get_value())
                with strategies.scope(strategy):
                    return tf.stack([[tf.cast(loss, "float32"), waited, *first, *kept.after()]])

            return tf.cond(there, do, lambda: tf.zeros([0, len(kept.names)]))

        def run(iterator, steps):
            """The number of the step before, the rows of the steps that were done, the logs."""
            before = (
                0 if model.optimizer is None else tf.convert_to_tensor(model.optimizer.iterations)
            )
            if model.steps_per_execution == 1:
                rows = step_of(iterator)
            else:

                def body(_, rows):
                    row = step_of(iterator)
                    return tf.shape(row)[0] > 0, tf.concat([rows, row], 0)

                _, rows = tf.while_loop(
                    lambda more, rows: tf.logical_and(more, tf.shape(rows)[0] < steps),
                    body,
                    (tf.constant(True), tf.zeros([0, len(kept.names)])),
                    (tf.TensorShape([]), tf.TensorShape([None, len(kept.names)])),
                    parallel_iterations=1,
                )
            with strategies.scope(strategy):
                return before, rows, model.get_metrics_result()

        if not model.run_eagerly:
            run = tf.function(run, autograph=False, reduce_retracing=True)

        def execute(iterator):
            if not self.steps:
                with strategies.scope(strategy):
                    return model.get_metrics_result()
            if not isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
                iterator = self._iterator_of_one(iterator)
            before, rows, logs = run(iterator, tf.constant(self.steps))
            rows = rows.numpy()
            if not len(rows):
                raise StopIteration
            if training:
                self.scalar_names, self.scalars = kept.names, rows
                finite = np.isfinite(rows[:, 0])  # the losses
                if not finite.all():
                    raise NonFiniteLoss(int(before) + int(finite.argmin()) + 1)
            return logs

        return execute

    def predict_function(self) -> Callable[[list], Any]:
        """Returns the function that gives the model's outputs for a list of distributed batches."""
        model, strategy = self._model, self._strategy
        forward = step.Forward(model, replicas=self._replicas, jit_compile=model.jit_compile)

        def run(batch):
            outputs = strategy.run(forward, args=(batch,))
            return tf.nest.map_structure(self._joined, outputs)

        if not model.run_eagerly:
            run = tf.function(run, autograph=False, reduce_retracing=True)

        def predict(batches):
            outputs = [run(batch) for batch in batches]
            return tf.nest.map_structure(lambda *tensors: tf.concat(tensors, 0), *outputs)

        return predict

    def _joined(self, rows):
        """The rows of all replicas, in their order."""
        here = self._strategy.experimental_local_results(rows)
        if len(here) == self._replicas:
            return tf.concat(here, 0)
        if here[0].dtype != tf.bfloat16:
            return self._strategy.gather(rows, 0)
        wide = self._strategy.run(tf.cast, args=(rows, tf.float32))  # gather has no bfloat16
        return tf.cast(self._strategy.gather(wide, 0), tf.bfloat16)

    def _iterator_of_one(self, batches):
        """An iterator over the one batch of arrays that `train_on_batch` passes."""
        (batch,) = batches
        batch = tuple(part for part in batch if part is not None)
        batch = tf.nest.map_structure(tf.convert_to_tensor, batch)
        spec = self.batch_spec
        iterator = iter(self.distribute(tf.data.Dataset.from_tensors(batch)))
        self.batch_spec, self.steps = spec, 1
        return iterator

    def _fitting_micro_batches(self) -> int:
        """The number that was asked for, or with "auto" the least that fits into memory."""
        if self.micro_batches != "auto":
            return self.micro_batches
        rows = tf.nest.flatten(self.batch_spec)[0].shape[0]
        if rows is None:
            raise ValueError(
                'micro_batches="auto" needs to know the size of a batch: batch the data set with '
                "drop_remainder=True, or give a number."
            )
        rows = -(-rows // self._replicas)
        zeros = tf.nest.map_structure(
            lambda spec: tf.zeros([rows, *spec.shape[1:]], spec.dtype), self.batch_spec
        )
        number = 1
        while not self._fits(zeros, number):
            if number >= rows:
                raise ValueError(
                    "The step does not fit into memory even with a single example at a time: make "
                    "the model or its input smaller."
                )
            number *= 2
        if self._strategy.extended.should_checkpoint:  # the chief
            print(
                f"micro-batches: {number}, of {-(-rows // number)} of a replica's {rows} examples"
            )
        self.micro_batches = number
        return number

    def _fits(self, batch, number: int) -> bool:
        trial = step.Step(
            self._model,
            replicas=self._replicas,
            training=True,
            jit_compile=self._model.jit_compile,
            micro_batches=number,
        )
        try:
            tf.function(
                lambda: self._strategy.run(trial.rehearse, args=(batch,)), autograph=False
            )()
            fits = 1
        except tf.errors.ResourceExhaustedError:
            fits = 0
        with strategies.scope(self._strategy):
            everywhere = self._strategy.run(
                lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(fits))
            )
        return int(self._strategy.experimental_local_results(everywhere)[0]) == self._replicas


class Splitting:
    """A strategy that cuts batches by examples.

    `tf.distribute` leaves the last replicas without rows where a batch is not a multiple of their
    number (https://github.com/tensorflow/tensorflow/issues/41657).
    """

    def __init__(self, strategy: tf.distribute.Strategy, execution: Execution):
        self._strategy = strategy
        self._execution = execution

    def experimental_distribute_dataset(self, dataset, options=None):
        return self._execution.distribute(dataset)

    def __getattr__(self, name):
        return getattr(self._strategy, name)
