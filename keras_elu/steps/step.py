"""One step of training or evaluation: the same mathematics on any number of replicas.

The global batch is split into pieces: each replica gets its share of the rows, and passes them
through the network in one or more micro-batches. The result of a piece is a pure function of
tensors, which XLA may compile. The sums over all pieces are those of the global batch:

    loss        sum over the pieces of (rows of the piece / rows of the batch) * loss of the piece;
                a loss with another divisor, such as its valid labels, is weighted by that instead
    gradients   those of this loss; clipping, loss scaling and the update see nothing else
    statistics  the same weighted mean (batch normalisation); each piece starts from the old values
    counters    advance once per step, as on one replica
    seeds       each piece draws its own numbers, from the seed and the number of the piece
    metrics     sums over rows add up; all others are computed from the outputs of all pieces
"""

import itertools

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals, variables
from keras_elu.steps.analysis import Analysis, analyse
from keras_elu.steps.computation import (
    Computation,
    OfBatch,
    Result,
    forward,
    number_of_rows,
)
from keras_elu.steps.isolated import Isolated
from keras_elu.steps.variables import Variables


class Step:
    """The per-replica step, called in the replica's context.

    Args:
        model: A compiled model whose variables all exist.
        batch: The `tf.TypeSpec`s of a batch.
        replicas: Number of replicas.
        training: Whether to update the weights; otherwise the step only evaluates.
        jit_compile: Whether XLA compiles the computations between the sums over the replicas.
        micro_batches: Number of parts in which a replica passes its rows through the network while
            training.

    Raises:
        ValueError: With one sentence, if the model cannot be trained in pieces.
    """

    def __init__(
        self,
        model: keras.Model,
        batch,
        *,
        replicas: int,
        training: bool,
        jit_compile: bool,
        micro_batches: int = 1,
    ):
        self._model = model
        self._replicas = replicas
        self._training = training
        self._parts = micro_batches if training else 1
        self._in_pieces = replicas * self._parts > 1
        self._analysis: Analysis = analyse(
            model,
            lambda batch: forward(model, batch, training),
            batch,
            training=training,
            predicting=False,
            in_pieces=self._in_pieces,
        )
        metrics = model.metrics_variables
        weights = model.trainable_variables
        known = {id(variable) for variable in [*metrics, *weights]}
        self._optimizer = model.optimizer if training and weights else None
        self._variables = Variables(
            weights,
            [v for v in model.variables if id(v) not in known] + [*self._analysis.untracked],
            metrics,
            self._optimizer.variables if self._optimizer else [],
        )
        self._computation = Computation(
            model,
            self._analysis,
            self._variables,
            replicas=replicas,
            training=training,
            in_pieces=self._in_pieces,
        )
        # A synchronised batch normalisation sums over the replicas within the network.
        synchronized = replicas > 1 and any(map(is_synchronized, keras_internals.layers(model)))
        self._compute = self._replica if synchronized else Isolated(self._replica, jit_compile)
        self._update = Isolated(self._updated, jit_compile)
        self._alone = Isolated(self._in_place, jit_compile)
        self._by_value = Isolated(self._replica_and_update, jit_compile)
        # A variable of int32 is always in the host's memory, where XLA on a GPU cannot reach it:
        # https://github.com/tensorflow/tensorflow/issues/53192
        all_variables = itertools.chain(*self._variables)
        self._reaches_all = all(v.value.dtype != tf.int32 for v in all_variables)
        self._measure = Isolated(self._computation.measured, False)
        self._divisors = Isolated(self._computation.divisors, False)

    def __call__(self, batch) -> tf.Tensor:
        """Does the step and returns the loss of the global batch.

        Args:
            batch: The replica's rows as `(x, y)` or `(x, y, sample_weight)`; with several replicas,
                a pair of the number of rows, which is 0 if the only row is a placeholder, and the
                rows.
        """
        context = tf.distribute.get_replica_context()
        handles = variables.handles(self._variables)
        counted, batch = batch if self._replicas > 1 else (None, batch)
        values = variables.read(handles, self._variables)
        of_batch = self._of_batch(context, counted, batch, values)
        if self._replicas == 1:
            if self._reaches_all:
                return self._alone(handles, batch, of_batch)
            result, new = self._by_value(values, batch, of_batch, tf.constant(0))
            variables.assign(handles, new)
            return result.loss
        replica = context.replica_id_in_sync_group
        result = self._compute(values, batch, of_batch, replica)
        result = self._reduced(context, result)
        new = self._new_values(values, result, self._update)
        if self._analysis.gathered:
            new = new._replace(metrics=self._of_whole_batch(context, values, new, result, of_batch))
        variables.assign(handles, new)
        return result.loss

    def _reduced(self, context, result: Result) -> Result:
        """Returns the sums over the replicas."""
        weights, state = result.changes
        parts = result.loss, result.gradients, weights.added, state.added
        if not self._training and not variables.tensors(parts[1:]):
            return result  # metrics average the replicas' parts of the loss
        loss, gradients, weights_added, state_added = variables.summed(context, parts)
        added = weights._replace(added=weights_added), state._replace(added=state_added)
        return result._replace(loss=loss, gradients=gradients, changes=added)

    def _of_whole_batch(self, context, values, new, result, of_batch) -> list[tf.Tensor]:
        """Returns the metrics' variables, where some metrics need the outputs of all replicas.

        Keras reads the sum over the replicas: the first replica gets the value, the others zeros.
        """
        outputs = variables.gathered(context, result.outputs, of_batch.rows)
        gathered = [id(v) in self._analysis.gathered for v in self._variables.metrics]
        pairs = zip(values.metrics, gathered, strict=True)
        old = variables.summed(context, [value if whole else None for value, whole in pairs])
        old = [v if o is None else o for o, v in zip(old, values.metrics, strict=True)]
        whole = self._measure(old, outputs)
        first = tf.equal(context.replica_id_in_sync_group, 0)
        return [
            tf.where(first, w, tf.zeros_like(w)) if here else n
            for here, w, n in zip(gathered, whole, new.metrics, strict=True)
        ]

    def rehearse(self, batch) -> list[tf.Tensor]:
        """Computes a training step for the rows of one replica without changing any variable."""
        values = variables.read(variables.handles(self._variables), self._variables)
        rows = tf.cast(number_of_rows(batch), "float32")
        of_batch = OfBatch(rows, rows, tuple(rows if d else None for d in self._analysis.divided))
        result = self._by_value(values, batch, of_batch, tf.constant(0))
        return [tf.reduce_sum(tf.cast(t, "float32")) for t in variables.tensors(result)]

    def check_xla(self, batch) -> None:
        """Raises an error if XLA cannot compile the step for a batch of `tf.TensorSpec`s."""
        number, place = tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)
        divisors = tuple(number if divided else None for divided in self._analysis.divided)
        values = Variables(
            *([tf.TensorSpec(v.shape, v.value.dtype) for v in group] for group in self._variables)
        )
        arguments = values, batch, OfBatch(number, number, divisors), place
        Isolated(
            lambda *flat: self._replica_and_update(*variables.packed(arguments, flat)), True
        ).check_xla(*variables.tensors(arguments))

    def _of_batch(self, context, counted, batch, values) -> OfBatch:
        rows = number_of_rows(batch)
        equal = isinstance(rows, int) and not tf.executing_eagerly()  # on all replicas
        counted = tf.cast(rows if counted is None or equal else counted, "float32")
        divided = self._analysis.divided
        divisors = (None,) * len(divided)
        if any(divided):
            divisors = self._divisors(values, batch, counted)
        if self._replicas == 1:
            return OfBatch(counted, counted, divisors)
        if equal and not variables.tensors(divisors):
            return OfBatch(counted, counted * self._replicas, divisors)
        return OfBatch(counted, *variables.summed(context, (counted, divisors)))

    def _in_place(self, handles, batch, of_batch) -> tf.Tensor:
        """Does a whole step on one replica; XLA gets the variables and updates them in place."""
        values = variables.read(handles, self._variables)
        result, new = self._replica_and_update(values, batch, of_batch, tf.constant(0))
        variables.assign(handles, new)
        return result.loss

    # Pure functions of tensors.

    def _replica_and_update(self, values, batch, of_batch, replica):
        """Computes a whole step on one replica, which XLA can compile as a unit."""
        result = self._replica(values, batch, of_batch, replica)
        new = self._new_values(values, result, self._updated)
        if self._replicas == 1 and self._analysis.gathered:
            whole = self._computation.measured(values.metrics, result.outputs)
            metrics = [
                w if id(variable) in self._analysis.gathered else n
                for variable, w, n in zip(self._variables.metrics, whole, new.metrics, strict=True)
            ]
            new = new._replace(metrics=metrics)
        return result._replace(outputs=()), new

    def _new_values(self, values, result, update) -> Variables:
        """Returns the values of all variables after the step."""
        kinds = self._analysis.state
        weights, state = (
            variables.changed(group, kinds, old, changes)
            for group, old, changes in zip(
                self._variables[:2], values[:2], result.changes, strict=True
            )
        )
        slots = ()
        if self._optimizer:
            current = [v if w is None else w for v, w in zip(values.weights, weights, strict=True)]
            weights, slots = update(current, values.slots, result.gradients)
        return Variables(weights, state, result.metrics, slots)

    def _updated(self, weights, slots, gradients):
        """Returns the weights and the optimizer's variables after the step."""
        variables = self._variables.weights
        return keras_internals.apply(self._optimizer, variables, slots, gradients, weights)

    def _replica(self, values, batch, of_batch, replica) -> Result:
        """Returns the sums over the pieces of a replica."""

        def piece(part, batch, rows, metrics):
            number = replica * self._parts + part
            of_piece = of_batch._replace(rows=rows)
            return self._computation.piece(
                values._replace(metrics=metrics), batch, of_piece, number
            )

        if self._parts == 1:
            return piece(0, batch, of_batch.rows, values.metrics)
        # All parts but the first have the same number of rows; the first has the rest.
        rows = number_of_rows(batch)
        size = -(-rows // self._parts)
        parts = -(-rows // size)
        begin = rows - (parts - 1) * size
        counted = tf.minimum(of_batch.rows, tf.cast(begin, "float32"))
        first = piece(0, _part(batch, 0, begin), counted, values.metrics)
        if isinstance(parts, int) and parts == 1:
            return first
        missing = [
            tf.zeros(tf.concat([[rows - begin], tf.shape(t)[1:]], 0), t.dtype)
            for t in variables.tensors(first.outputs)
        ]
        every_row = [
            tf.ensure_shape(tf.concat([own, rest], 0), [None, *own.shape[1:]])
            for own, rest in zip(variables.tensors(first.outputs), missing, strict=True)
        ]
        first = first._replace(outputs=variables.packed(first.outputs, every_row))

        def body(part, sofar):
            sofar = variables.packed(first, sofar)
            place = begin + (part - 1) * size
            rows = tf.cast(size, "float32")
            new = piece(part, _part(batch, place, size), rows, sofar.metrics)
            outputs = [
                tf.tensor_scatter_nd_update(
                    sum_, place + tf.range(tf.shape(part_)[0])[:, None], part_
                )
                for sum_, part_ in zip(
                    variables.tensors(sofar.outputs), variables.tensors(new.outputs), strict=True
                )
            ]
            changes = [
                old._replace(added=variables.added(old.added, add.added))
                for old, add in zip(sofar.changes, new.changes, strict=True)
            ]
            result = Result(
                sofar.loss + new.loss,
                variables.added(sofar.gradients, new.gradients),
                tuple(changes),
                new.metrics,
                variables.packed(sofar.outputs, outputs),
            )
            return part + 1, variables.tensors(result)

        _, sums = tf.while_loop(
            lambda part, _: part < parts,
            body,
            (tf.constant(1), variables.tensors(first)),
            parallel_iterations=1,
        )
        return variables.packed(first, sums)


def is_synchronized(layer: keras.Layer) -> bool:
    """Returns whether a layer computes its statistics over all replicas."""
    return getattr(layer, "synchronized", False)


def _part(batch, begin, size):
    def rows(tensor):
        rest = len(tensor.shape) - 1
        taken = tf.slice(tensor, [begin] + [0] * rest, [size] + [-1] * rest)
        return tf.ensure_shape(taken, [size if isinstance(size, int) else None, *tensor.shape[1:]])

    return tf.nest.map_structure(rows, batch)
