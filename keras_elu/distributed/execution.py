"""The functions that Keras calls to run steps; a call is an execution of one or more steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_elu.distributed import strategies
from keras_elu.steps import step, step_scalars
from keras_elu.steps.isolated import relaxed, spec, tensors
from keras_elu.steps.prediction import Prediction


class NonFiniteLoss(ArithmeticError):
    """The loss is no longer finite.

    Attributes:
        step: The first training step with such a loss, counted from 1 by the optimizer, which does
            not count the steps that a `LossScaleOptimizer` skips.
        offset: The same step, counted from 1 within its execution.
    """

    def __init__(self, step: int, offset: int):
        super().__init__(step, offset)
        self.step, self.offset = step, offset

    def __str__(self):
        return f"The loss of step {self.step:,} is not finite."


class StepScalars(NamedTuple):
    """The scalars of the steps of an execution; see `keras_elu.steps.step_scalars`.

    Attributes:
        names: Their names.
        rows: An array with a row for each step; None before the first execution.
    """

    names: tuple[str, ...]
    rows: np.ndarray | None


class Execution:
    """Runs the next `Functions.steps` steps on the batches of an iterator.

    Calling it returns the metrics since their last reset. It raises `StopIteration` if no batch is
    left, and `NonFiniteLoss`.

    Args:
        functions: The `keras_elu.distributed.functions.Functions` of the model.
        training: Whether to train; otherwise to evaluate.
        micro_batches: Number of parts in which a replica passes its rows through the network.
    """

    def __init__(self, functions, *, training: bool, micro_batches: int):
        self._functions = functions
        self._model, self._strategy = functions.model, functions.strategy
        self._training, self._micro_batches = training, micro_batches
        self._scalars = step_scalars.Reader(self._model, training)
        self._steps: dict[str, step.Step] = {}  # by the form of their batches
        self._several = functions.function(self._run_several)
        self._one = functions.function(self._run_one)

    def __call__(self, iterator):
        if isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
            if not self._functions.steps:
                with strategies.scope(self._strategy):
                    return self._model.get_metrics_result()
            return self._finished(*self._several(iterator, tf.constant(self._functions.steps)))
        (batch,) = iterator  # of arrays, which `train_on_batch` passes
        return self._finished(*self._one(tensors(batch)))

    def _finished(self, before, rows, logs) -> dict[str, Any]:
        rows = rows.numpy()
        if not len(rows):
            raise StopIteration
        if self._training:
            self._functions.scalars = StepScalars(self._scalars.names, rows)
            finite = np.isfinite(rows[:, 0])  # the losses
            if not finite.all():
                offset = int(finite.argmin()) + 1
                raise NonFiniteLoss(int(before) + offset, offset)
        return logs

    # In the graph: the number of the previous step, a row of scalars for each step, and the logs.

    def _run_several(self, iterator, steps):
        before = self._steps_before()
        if self._model.steps_per_execution == 1:
            return before, self._next_step(iterator), self._logs()
        columns = len(self._scalars.names)

        def body(_, rows):
            row = self._next_step(iterator)
            return tf.shape(row)[0] > 0, tf.concat([rows, row], 0)

        _, rows = tf.while_loop(
            lambda more, rows: tf.logical_and(more, tf.shape(rows)[0] < steps),
            body,
            (tf.constant(True), tf.zeros([0, columns])),
            (tf.TensorShape([]), tf.TensorShape([None, columns])),
            parallel_iterations=1,
        )
        return before, rows, self._logs()

    def _run_one(self, batch):
        before = self._steps_before()

        def step(batch):
            return self._step(self._functions.own_rows(batch))

        return before, self._row(lambda: self._strategy.run(step, args=(batch,)), 0.0), self._logs()

    def _next_step(self, iterator):
        """Returns a row with the scalars of a step; no row if there is no batch."""
        batch, available, waited = step_scalars.timed(
            iterator.get_next_as_optional, lambda batch: batch.has_value()
        )

        def step():
            rows = batch.get_value()
            return self._row(lambda: self._strategy.run(self._step, args=(rows,)), waited)

        return tf.cond(available, step, lambda: tf.zeros([0, len(self._scalars.names)]))

    def _row(self, run: Callable, waited):
        with strategies.scope(self._strategy):
            first = self._scalars.before()
        loss = self._strategy.experimental_local_results(run())[0]
        with strategies.scope(self._strategy):
            last = self._scalars.after()
        return tf.stack([[tf.cast(loss, "float32"), waited, *first, *last]])

    def _step(self, batch):
        """Does the per-replica step for a batch of any form."""
        rows = batch[1] if self._functions.replicas > 1 else batch
        form = tf.nest.map_structure(lambda t: relaxed(spec(t)), rows)
        key = str(form)
        if key not in self._steps:
            self._steps[key] = self._functions.step(
                form, training=self._training, micro_batches=self._micro_batches
            )
        return self._steps[key](batch)

    def _steps_before(self):
        optimizer = self._model.optimizer
        return tf.constant(0) if optimizer is None else tf.convert_to_tensor(optimizer.iterations)

    def _logs(self):
        with strategies.scope(self._strategy):
            return self._model.get_metrics_result()


class PredictExecution:
    """Returns the model's outputs for a list of distributed batches.

    Args:
        functions: The `keras_elu.distributed.functions.Functions` of the model.
    """

    def __init__(self, functions) -> None:
        self._functions, self._strategy = functions, functions.strategy
        self._predictions: dict[str, Prediction] = {}  # by the form of their batches
        self._one_distributed = functions.function(
            lambda batch: self._joined(self._strategy.run(self._predict, args=(batch,)))
        )
        self._one = functions.function(
            lambda batch: self._joined(
                self._strategy.run(lambda b: self._predict(functions.own_rows(b)), args=(batch,))
            )
        )

    def __call__(self, distributed):
        outputs = [self._one_distributed(batch) for batch in distributed]
        if len(outputs) == 1:
            return outputs[0]
        return tf.nest.map_structure(lambda *tensors: tf.concat(tensors, 0), *outputs)

    def on_batch(self, x):
        """Returns the outputs for one batch of arrays."""
        return self._one(tensors((x,)))

    def _predict(self, batch):
        rows = batch[1] if self._functions.replicas > 1 else batch
        form = tf.nest.map_structure(lambda t: relaxed(spec(t)), rows)
        key = str(form)
        if key not in self._predictions:
            model = self._functions.model
            self._predictions[key] = Prediction(
                model, form, replicas=self._functions.replicas, jit_compile=bool(model.jit_compile)
            )
        return self._predictions[key](batch)

    def _joined(self, rows):
        """Returns the rows of all replicas in order."""
        return tf.nest.map_structure(self._joined_tensor, rows)

    def _joined_tensor(self, rows):
        here = self._strategy.experimental_local_results(rows)
        if len(here) == 1 == self._functions.replicas:
            return here[0]
        if len(here) == self._functions.replicas:
            return tf.concat(here, 0)
        if here[0].dtype != tf.bfloat16:
            return self._strategy.gather(rows, 0)
        wide = self._strategy.run(tf.cast, args=(rows, tf.float32))  # gather has no bfloat16
        return tf.cast(self._strategy.gather(wide, 0), tf.bfloat16)
