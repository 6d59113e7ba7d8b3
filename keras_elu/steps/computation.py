"""The computation for one piece of the global batch, as a pure function of tensors."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals, pieces, variables
from keras_elu.steps.analysis import Analysis
from keras_elu.steps.variables import Changes, Variables, pairs


class OfBatch(NamedTuple):
    """Facts about the global batch that its pieces need.

    Attributes:
        rows: Number of rows of the replica; 0 if its only row is a placeholder.
        total: Number of rows of the global batch.
        divisors: For each loss, the sum of `pieces.weight`; None if that is `total`.
    """

    rows: tf.Tensor
    total: tf.Tensor
    divisors: tuple[tf.Tensor | None, ...]


class Result(NamedTuple):
    """The results of one or more pieces of a batch.

    Attributes:
        loss: Their part of the loss of the batch.
        gradients: Its gradients; None for a weight that it does not depend on.
        changes: Changes of the weights and of the state.
        metrics: The values of the metrics' variables afterwards.
        outputs: Labels, predictions, masks and sample weights, for metrics of the whole batch.
    """

    loss: tf.Tensor
    gradients: list[tf.Tensor | None]
    changes: tuple[Changes, Changes]
    metrics: list[tf.Tensor]
    outputs: Any


class Computation:
    """The forward and the backward pass, and the metrics.

    Args:
        model: A compiled model whose variables all exist.
        analysis: The analysis of its step.
        variables: The variables of the step; gradients are computed only if there are slots.
        replicas: Number of replicas.
        training: Whether it is a training step.
        in_pieces: Whether batches are split.
    """

    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        variables: Variables,
        *,
        replicas: int,
        training: bool,
        in_pieces: bool,
    ):
        self._model = model
        self._analysis = analysis
        self._variables = variables
        self._replicas = replicas
        self._training = training
        self._in_pieces = in_pieces
        self._optimizer = model.optimizer if variables.slots else None

    def piece(self, values: Variables, batch, of_batch: OfBatch, number) -> Result:
        """Returns the result for rows that pass through the network together."""
        analysis = self._analysis
        piece = None
        share = tf.math.divide_no_nan(of_batch.rows, of_batch.total)
        if self._in_pieces:
            piece = pieces.Piece(of_batch.rows, of_batch.total, analysis.losses, of_batch.divisors)
        state = variables.of_piece(self._variables.state, values.state, number)
        start = values._replace(state=state)
        with (
            pieces.current(piece),
            tf.GradientTape(watch_accessed_variables=False) as tape,
            _Scope(self._variables, start, tape) as scope,
        ):
            tape.watch(values.weights)
            loss, predictions = self._loss(batch, piece)
            with tape.stop_recording():
                self._update_metrics(batch, predictions, tf.reduce_mean(loss), of_batch.rows, start)
            # For a loss without reduction, Keras minimises the sum and reports the mean.
            by_row = loss.shape.rank > 0
            counts = tf.cast(of_batch.rows > 0, loss.dtype)
            of_loss = tf.cast(share, loss.dtype)
            objective = tf.reduce_sum(loss) * counts if by_row else loss * of_loss
            loss = tf.reduce_mean(loss) * of_loss
            if self._optimizer:
                objective = self._optimizer.scale_loss(objective)

        def new(variables):
            return [scope.get_current_value(variable) for variable in variables]

        metrics = new(self._variables.metrics)
        if self._replicas > 1:
            metrics = [
                tf.where(of_batch.rows > 0, a, b)
                for a, b in zip(metrics, values.metrics, strict=True)
            ]
        gradients = scope.gradients(objective) if self._optimizer else []
        of_weights, of_state = (
            variables.changes(group, analysis.state, old, begun, new(group), share)
            for group, old, begun in zip(self._variables[:2], values[:2], start[:2], strict=True)
        )
        outputs = self._outputs(batch, predictions) if analysis.gathered else ()
        return Result(loss, gradients, (of_weights, of_state), metrics, outputs)

    def _loss(self, batch, piece: pieces.Piece | None):
        """Returns the loss of a piece, or of a whole batch, and the predictions."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        predictions = keras_internals.call(self._model, x, self._training)
        loss = keras_internals.compute_loss(
            self._model, x, y, predictions, sample_weight, self._training
        )
        loss *= pieces.keras_divisor()
        if piece is not None and self._analysis.sums_added:
            added = keras_internals.added_losses()
            rest = tf.math.divide_no_nan(1.0, piece.share) - 1
            for place in self._analysis.sums_added:
                loss += tf.reduce_sum(added[place]) * tf.cast(rest, loss.dtype)
        return loss, predictions

    def _update_metrics(self, batch, predictions, loss, rows, start: Variables):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if not isinstance(number_of_rows(batch), int):
            self._weigh_output_losses(start, rows)
        keras_internals.loss_tracker(self._model).update_state(loss, rows)
        self._model.compute_metrics(x, y, predictions, sample_weight)

    def _weigh_output_losses(self, start: Variables, rows):
        """Weights losses of single outputs by rows; Keras counts a batch of unknown size as one."""
        before = dict(zip(map(id, self._variables.metrics), start.metrics, strict=True))
        for metric in keras_internals.output_loss_trackers(self._model):
            for variable in metric.variables:
                old = before[id(variable)]
                variable.assign(old + (variable.value - old) * rows)

    def _outputs(self, batch, predictions):
        """Returns the labels, predictions, masks and sample weights of a piece."""
        _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        masks = [keras_internals.mask(output) for output in tf.nest.flatten(predictions)]
        return y, predictions, masks, sample_weight

    def measured(self, metrics, outputs) -> list[tf.Tensor]:
        """Returns the metrics' variables after an update with the outputs of all pieces."""
        y, predictions, masks, sample_weight = outputs
        predictions = tf.nest.map_structure(tf.identity, predictions)
        for output, mask in zip(tf.nest.flatten(predictions), masks, strict=True):
            if mask is not None:
                keras_internals.set_mask(output, mask)
        values = list(zip(self._variables.metrics, metrics, strict=True))
        with keras.StatelessScope(values) as scope:
            keras_internals.update_compiled_metrics(self._model, y, predictions, sample_weight)
        return [scope.get_current_value(variable) for variable in self._variables.metrics]

    def divisors(self, values, batch, rows) -> tuple[tf.Tensor | None, ...]:
        """Returns a replica's part of the divisor of each loss that has one.

        TensorFlow prunes all parts of the network that the masks do not need.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with keras.StatelessScope(pairs(self._variables, values)), pieces.recorded_calls() as calls:
            predictions = keras_internals.call(self._model, x, self._training)
            keras_internals.compute_loss(
                self._model, x, y, predictions, sample_weight, self._training
            )
        counts = tf.cast(rows > 0, "float32")
        return tuple(
            tf.cast(pieces.weight(loss, *calls[number]), "float32") * counts if divided else None
            for number, (loss, divided) in enumerate(
                zip(pieces.losses(self._model), self._analysis.divided, strict=True)
            )
        )


class _Scope(keras_internals.Recording):
    """Holds the values of the variables during a piece, and computes the gradients of the weights.

    As with a `tf.Variable`, no gradient flows through an assignment: the gradient of an assigned
    weight is the sum over its successive values.
    """

    def __init__(self, variables: Variables, values: Variables, tape: tf.GradientTape):
        pairs = [
            pair
            for group in zip(variables, values, strict=True)
            for pair in zip(*group, strict=True)
        ]
        super().__init__(pairs, collect_losses=True)
        self._tape = tape
        self._weights = {id(v): [t] for v, t in zip(variables.weights, values.weights, strict=True)}

    def revised(self, variable, value):
        if id(variable) in self._weights:
            value = tf.stop_gradient(value)
            self._tape.watch(value)
            self._weights[id(variable)].append(value)
        return value

    def gradients(self, objective) -> list[tf.Tensor | None]:
        def total(weight, gradients):
            parts = [tf.convert_to_tensor(g) for g in gradients if g is not None]
            return tf.ensure_shape(tf.add_n(parts), weight.shape) if parts else None

        found = self._tape.gradient(objective, list(self._weights.values()))
        return [
            total(values[0], gradients)
            for values, gradients in zip(self._weights.values(), found, strict=True)
        ]


def forward(model: keras.Model, batch, training: bool) -> None:
    """Computes the predictions, losses and metrics of a step, for `analysis`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    predictions = keras_internals.call(model, x, training)
    keras_internals.compute_loss(model, x, y, predictions, sample_weight, training)
    model.compute_metrics(x, y, predictions, sample_weight)


def number_of_rows(batch) -> int | tf.Tensor:
    """Returns the first dimension, as a number if it is known."""
    first = next(tensor for tensor in tf.nest.flatten(batch) if tensor is not None)
    return keras.ops.shape(first)[0] if first.shape[0] is None else first.shape[0]
