"""One step of training or evaluation, as mathematics that is the same on any number of replicas.

The global batch is cut into pieces: every replica has its share of the rows, and passes it through
the network in one or more micro-batches. What a piece yields is a pure function of tensors, which
XLA may compile. The sums over all pieces, and from them the update, are those of the global batch:

    loss        sum over the pieces of (rows of the piece / rows of the batch) * loss of the piece
    gradients   those of this loss; clipping, loss scaling and the update see nothing else
    statistics  the same weighted mean (batch normalisation); each piece starts from the old ones
    counters    advance once a step, as on one replica
    seeds       each piece draws its own numbers, from the seed and the number of the piece
"""

import inspect
import itertools

import keras
import tensorflow as tf

from keras_elu.distributed import keras_internals, pieces
from keras_elu.distributed.isolated import Isolated


class Step:
    """What a replica does with its rows; called in the replica's context.

    Args:
        model: A compiled model, all variables of which exist.
        replicas: Number of replicas.
        training: Whether to update the weights, or to evaluate only.
        jit_compile: Whether XLA compiles what is computed between the sums over the replicas.
        micro_batches: Parts in which a replica passes its rows through the network, in training.
    """

    def __init__(
        self,
        model: keras.Model,
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
        self._metrics = model.metrics_variables
        known = {id(variable) for variable in self._metrics}
        self._weights = model.trainable_variables
        self._state = [v for v in model.non_trainable_variables if id(v) not in known]
        self._optimizer = model.optimizer if training and self._weights else None
        self._slots = self._optimizer.variables if self._optimizer else []
        self._variables = {
            "weights": self._weights,
            "state": self._state,
            "metrics": self._metrics,
            "slots": self._slots,
        }
        # A synchronised batch normalisation sums over the replicas on its way.
        synchronized = replicas > 1 and any(map(is_synchronized, keras_internals.layers(model)))
        self._compute = self._replica if synchronized else Isolated(self._replica, jit_compile)
        self._update = Isolated(self._updated, jit_compile)
        self._alone = Isolated(self._in_place, jit_compile)
        self._rehearsed = Isolated(self._replica_and_update, jit_compile)
        self._sums = any(
            getattr(loss, "reduction", None) == "mean_with_sample_weight"
            for loss in keras_internals.losses(model)
        )

    def __call__(self, batch) -> tf.Tensor:
        """Does the step and returns the loss over the global batch.

        Args:
            batch: The replica's rows as `(x, y)` or `(x, y, sample_weight)`; on several replicas
                behind the number of those that count, which is 0 for a replica without rows.
        """
        context = tf.distribute.get_replica_context()
        counted, batch = batch if self._replicas > 1 else (None, batch)
        of_batch = self._of_batch(context, counted, batch)
        handles = self._handles()
        if self._replicas == 1:
            return self._alone(handles, batch, of_batch)
        values = self._read(handles)
        result = self._compute(values, batch, of_batch, context.replica_id_in_sync_group)
        result = self._reduced(context, values, result)
        self._assign(handles, result)
        return result["loss"]

    def _reduced(self, context, values, result):
        """The sums over the replicas, and what follows from them."""
        names = "loss", "gradients", "means"
        parts = {name: result[name] for name in names}
        if self._training or result["means"]:
            sums = summed(context, tf.nest.flatten(parts))
            parts = tf.nest.pack_sequence_as(parts, sums)
        if self._optimizer:
            parts |= self._update(values["weights"], values["slots"], parts["gradients"])
        return result | parts

    def rehearse(self, batch) -> list[tf.Tensor]:
        """Computes what a training step needs, for the rows of one replica, and changes nothing."""
        handles = self._handles()
        values = self._read(handles)
        rows = tf.cast(number_of_rows(batch), "float32")
        of_batch = {"counted": rows, "total": rows, "sums": [rows] * self._sums}
        result = self._rehearsed(values, batch, of_batch, tf.constant(0))
        return [tf.reduce_sum(tf.cast(tensor, "float32")) for tensor in tf.nest.flatten(result)]

    def _handles(self) -> dict[str, list[tf.Tensor]]:
        """The resources of this replica's copies of the variables."""
        return {
            name: [variable.value.handle for variable in group]
            for name, group in self._variables.items()
        }

    def _read(self, handles) -> dict[str, list[tf.Tensor]]:
        """The values of the variables."""
        return {
            name: [
                tf.ensure_shape(
                    tf.raw_ops.ReadVariableOp(resource=handle, dtype=variable.value.dtype),
                    variable.shape,
                )
                for handle, variable in zip(handles[name], group, strict=True)
            ]
            for name, group in self._variables.items()
        }

    def _assign(self, handles, result) -> None:
        """Sets this replica's copies; `tf.Variable.assign` would ask for a rule to merge them."""
        of_kind = {"own": iter(result["own"]), "mean": iter(result["means"])}
        state = [
            (handle, next(of_kind[kind]))
            for handle, kind in zip(handles["state"], self._kinds, strict=True)
            if kind in of_kind
        ]
        names = ["metrics", *(["weights", "slots"] if self._optimizer else [])]
        rest = [zip(handles[name], result[name], strict=True) for name in names]
        for handle, value in itertools.chain(state, *rest):
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    def _of_batch(self, context, counted, batch) -> dict[str, tf.Tensor]:
        """The rows here that count, and those of the global batch, with its sample weights."""
        rows = number_of_rows(batch)
        counted = rows if counted is None or isinstance(rows, int) else counted
        counted = tf.cast(counted, "float32")
        weights = _sample_weights(batch) if self._sums else []
        sums = [tf.reduce_sum(tf.cast(weight, "float32")) for weight in weights]
        total = counted
        if isinstance(rows, int) and not sums:  # all replicas have as many
            total = counted * self._replicas
        elif self._replicas > 1:
            total, *sums = summed(context, [counted, *sums])
        return {"counted": counted, "total": total, "sums": sums}

    def _in_place(self, handles, batch, of_batch) -> tf.Tensor:
        """All of a step on one replica: XLA, given the variables, changes them where they lie."""
        result = self._replica_and_update(self._read(handles), batch, of_batch, tf.constant(0))
        self._assign(handles, result)
        return result["loss"]

    # From here on: pure functions of tensors.

    def _replica(self, values, batch, of_batch, replica):
        """The sums over the pieces of a replica."""

        def piece(part, batch, counted, metrics):
            return self._piece(
                {**values, "metrics": metrics},
                batch,
                {**of_batch, "counted": counted},
                replica * self._parts + part,
            )

        if self._parts == 1:
            return piece(0, batch, of_batch["counted"], values["metrics"])
        # The first part has the rows that are left over, all others the same number of them.
        rows = number_of_rows(batch)
        size = -(-rows // self._parts)
        parts = -(-rows // size)
        first = rows - (parts - 1) * size
        counted = tf.minimum(of_batch["counted"], tf.cast(first, "float32"))
        result = piece(0, _part(batch, 0, first), counted, values["metrics"])
        if isinstance(parts, int) and parts == 1:
            return result

        def body(part, sofar):
            rows = _part(batch, first + (part - 1) * size, size)
            new = piece(part, rows, tf.cast(size, "float32"), sofar["metrics"])
            summed = tf.nest.map_structure(
                tf.add, *({k: r[k] for k in ("loss", "gradients", "means")} for r in (sofar, new))
            )
            return part + 1, {**summed, "metrics": new["metrics"], "own": sofar["own"]}

        return tf.while_loop(
            lambda part, _: part < parts, body, (tf.constant(1), result), parallel_iterations=1
        )[1]

    def _piece(self, values, batch, of_batch, number):
        """Loss, gradients, statistics and metrics of the rows that pass through together."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        counted, total = of_batch["counted"], of_batch["total"]
        share = tf.math.divide_no_nan(counted, total)
        sums = tuple(zip(_sample_weights(batch), of_batch["sums"], strict=False))
        state = [
            _seed_of_piece(value, number) if keras_internals.is_seed(variable) else value
            for variable, value in zip(self._state, values["state"], strict=True)
        ]
        weights, metrics = values["weights"], values["metrics"]
        variables = [*self._weights, *self._state, *self._metrics, *self._slots]
        tensors = [*weights, *state, *metrics, *values["slots"]]
        with (
            pieces.current(pieces.Piece(counted, total, sums)),
            tf.GradientTape(watch_accessed_variables=False) as tape,
            keras.StatelessScope(
                list(zip(variables, tensors, strict=True)), collect_losses=True
            ) as scope,
        ):
            tape.watch(weights)
            predictions = self._model(x, **flags(self._model, self._training))
            self._refuse_masks(predictions)
            loss = self._model.compute_loss(
                x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=self._training
            )
            loss *= pieces.keras_divisor()
            with tape.stop_recording():
                if not isinstance(number_of_rows(batch), int):
                    self._weigh_output_losses(
                        dict(zip(map(id, variables), tensors, strict=True)), counted
                    )
                keras_internals.loss_tracker(self._model).update_state(loss, counted)
                self._model.compute_metrics(x, y, predictions, sample_weight)
            objective = loss * share
            if self._optimizer:
                objective = self._optimizer.scale_loss(objective)

        def new(variables):
            return [scope.get_current_value(variable) for variable in variables]

        new_metrics = new(self._metrics)
        if self._replicas > 1:
            new_metrics = [
                tf.where(counted > 0, a, b) for a, b in zip(new_metrics, metrics, strict=True)
            ]
        result = {"loss": loss * share, "gradients": [], "metrics": new_metrics}
        if self._optimizer:
            gradients = tape.gradient(objective, weights)
            self._connected = [gradient is not None for gradient in gradients]
            result["gradients"] = [
                tf.ensure_shape(gradient, variable.shape)
                for gradient, variable in zip(gradients, self._weights, strict=True)
                if gradient is not None
            ]
        return result | self._new_state(values["state"], state, new(self._state), share)

    def _new_state(self, start, old, new, share):
        """The state after the piece: its share of the mean, or its own where it is no mean."""
        result = {"means": [], "own": []}
        self._kinds = []
        for variable, s, a, b in zip(self._state, start, old, new, strict=True):
            if b is a:
                kind = "unchanged"
            elif keras_internals.is_seed(variable):
                kind = "own"
                result["own"].append(s + (b - a))  # as far as it went from its own
            elif b.dtype.is_floating and variable.aggregation != "only_first_replica":
                kind = "mean"
                result["means"].append(b * tf.cast(share, b.dtype))
            else:
                kind = "own"
                result["own"].append(b)
            self._kinds.append(kind)
        return result

    def _weigh_output_losses(self, before, rows):
        """Keras counts a batch of a number of rows that is not known beforehand as one row."""
        for metric in keras_internals.output_loss_trackers(self._model):
            for variable in metric.variables:
                old = before[id(variable)]
                variable.assign(old + (variable.value - old) * rows)

    def _refuse_masks(self, predictions):
        masked = any(map(keras_internals.has_mask, tf.nest.flatten(predictions)))
        if masked and self._replicas * self._parts > 1:
            raise ValueError(
                "The model's output has a mask (of a Masking or Embedding layer), over whose valid "
                "entries Keras averages the loss of each part of a batch alone: give their weights "
                "as sample_weight, or train on one replica with micro_batches=1."
            )

    def _replica_and_update(self, values, batch, of_batch, replica):
        """All of a step on one replica, which XLA can thus compile as a whole."""
        result = self._replica(values, batch, of_batch, replica)
        gradients = result.pop("gradients")
        if not self._optimizer:
            return result
        return result | self._updated(values["weights"], values["slots"], gradients)

    def _updated(self, weights, slots, gradients):
        """The weights and the optimizer's variables after the step."""
        remaining = iter(gradients)
        gradients = [next(remaining) if connected else None for connected in self._connected]
        weights, slots = keras_internals.apply(self._optimizer, slots, gradients, weights)
        return {"weights": weights, "slots": slots}


class Forward:
    """What a replica does with its rows to predict; called in the replica's context.

    Args:
        model: A model.
        replicas: Number of replicas.
        jit_compile: Whether XLA compiles it.
    """

    def __init__(self, model: keras.Model, *, replicas: int, jit_compile: bool):
        self._model = model
        self._replicas = replicas
        self._compute = Isolated(self._outputs, jit_compile)

    def __call__(self, batch):
        """Returns the model's outputs for the rows that count; `batch` is as for `Step`."""
        counted, batch = batch if self._replicas > 1 else (None, batch)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        variables = self._model.trainable_variables, self._model.non_trainable_variables
        outputs = self._compute(*(list(map(_value, group)) for group in variables), x)
        return tf.nest.map_structure(lambda tensor: tensor[:counted], outputs)

    def _outputs(self, weights, state, x):
        return self._model.stateless_call(weights, state, x, **flags(self._model, False))[0]


def flags(model: keras.Model, training: bool) -> dict[str, bool]:
    """Returns the keyword arguments for a call of the model."""
    accepted = inspect.signature(model.call).parameters
    return {"training": training} if "training" in accepted else {}


def number_of_rows(batch) -> int | tf.Tensor:
    """The first dimension, where possible as a number."""
    first = next(tensor for tensor in tf.nest.flatten(batch) if tensor is not None)
    return tf.shape(first)[0] if first.shape[0] is None else first.shape[0]


def summed(context: tf.distribute.ReplicaContext, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas, all of a data type in one packet."""
    result = [None] * len(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = tf.concat([tf.reshape(tensors[i], [-1]) for i in places], 0)
        parts = tf.split(
            context.all_reduce("SUM", flat), [tensors[i].shape.num_elements() for i in places]
        )
        for i, part in zip(places, parts, strict=True):
            result[i] = tf.reshape(part, tensors[i].shape)
    return result


def is_synchronized(layer: keras.Layer) -> bool:
    """Whether a layer computes its statistics over all replicas."""
    return getattr(layer, "synchronized", False)


def _value(variable: keras.Variable) -> tf.Tensor:
    return tf.convert_to_tensor(variable.value)


def _sample_weights(batch) -> list[tf.Tensor]:
    weights = keras.utils.unpack_x_y_sample_weight(batch)[2]
    return [weight for weight in tf.nest.flatten(weights) if weight is not None]


def _part(batch, begin, size):
    def rows(tensor):
        rest = len(tensor.shape) - 1
        return tf.slice(tensor, [begin] + [0] * rest, [size] + [-1] * rest)

    return tf.nest.map_structure(rows, batch)


def _seed_of_piece(seed: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    folded = tf.random.experimental.stateless_fold_in(tf.cast(seed, "int64"), number)
    return tf.where(tf.equal(number, 0), seed, tf.cast(folded, seed.dtype))
