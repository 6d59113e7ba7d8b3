"""Prediction on one replica."""

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals, variables
from keras_elu.steps.analysis import analyse
from keras_elu.steps.computation import number_of_rows
from keras_elu.steps.isolated import Isolated
from keras_elu.steps.variables import Variables


class Prediction:
    """The outputs for the rows of a replica, computed in the replica's context.

    Args:
        model: A built model.
        batch: The `tf.TypeSpec`s of a batch.
        replicas: Number of replicas.
        jit_compile: Whether XLA compiles it.
    """

    def __init__(self, model: keras.Model, batch, *, replicas: int, jit_compile: bool):
        self._model = model
        self._replicas = replicas
        self._analysis = analyse(
            model,
            self._computed,
            batch,
            training=False,
            predicting=True,
            in_pieces=replicas > 1,
        )
        weights = {id(v) for v in model.trainable_variables}
        metrics = {id(v): v for v in model.metrics_variables}
        state = [v for v in model.variables if id(v) not in weights | metrics.keys()]
        state += [v for i, v in metrics.items() if i in self._analysis.state]
        self._variables = Variables(model.trainable_variables, [*state, *self._analysis.untracked])
        self._compute = Isolated(self._outputs, jit_compile)

    def __call__(self, batch):
        """Returns the outputs for the replica's rows; `batch` is as for `Step`."""
        counted, batch = batch if self._replicas > 1 else (None, batch)
        context = tf.distribute.get_replica_context()
        handles = variables.handles(self._variables)
        values = variables.read(handles, self._variables)
        rows = tf.cast(number_of_rows(batch) if counted is None else counted, "float32")
        total = rows
        if self._replicas > 1 and self._analysis.state:
            total = variables.summed(context, [rows])[0]
        share = tf.math.divide_no_nan(rows, total)
        outputs, changes = self._compute(values, batch, share, context.replica_id_in_sync_group)
        if self._replicas > 1:
            added = variables.summed(context, [of.added for of in changes])
            changes = [of._replace(added=a) for of, a in zip(changes, added, strict=True)]
        new = [
            variables.changed(group, self._analysis.state, old, of)
            for group, old, of in zip(self._variables[:2], values[:2], changes, strict=True)
        ]
        variables.assign(handles, Variables(*new))
        if counted is None:
            return outputs
        return tf.nest.map_structure(lambda tensor: tensor[:counted], outputs)

    def _outputs(self, values, batch, share, number):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        start = values._replace(
            state=variables.of_piece(self._variables.state, values.state, number)
        )
        groups = list(zip(self._variables[:2], values[:2], start[:2], strict=True))
        pairs = [pair for group, _, begun in groups for pair in zip(group, begun, strict=True)]
        with keras_internals.Recording(pairs) as scope:
            outputs = keras_internals.call(self._model, x, False)
        changes = []
        for group, old, begun in groups:
            new = [scope.get_current_value(variable) for variable in group]
            of = variables.changes(group, self._analysis.state, old, begun, new, share)
            changes.append(of)
        return outputs, changes

    def _computed(self, batch) -> None:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        keras_internals.call(self._model, x, False)
