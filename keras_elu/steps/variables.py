"""The variables of a step: read and assigned per replica, and combined over pieces of a batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals
from keras_elu.steps.network_trials import StateKind


class Variables(NamedTuple):
    """Variables of a step, or their resources, or their values; None: unchanged.

    Attributes:
        weights: Trainable variables.
        state: Variables that layers assign: statistics, counters, seeds.
        metrics: Variables of metrics.
        slots: Variables of the optimizer.
    """

    weights: Sequence
    state: Sequence
    metrics: Sequence = ()
    slots: Sequence = ()


def handles(variables: Variables) -> Variables:
    """Returns the resources of this replica's copies of the variables."""
    return Variables(*([v.value.handle for v in group] for group in variables))


def read(handles: Variables, variables: Variables) -> Variables:
    """Returns the values of this replica's copies."""

    def value(handle, variable):
        tensor = tf.raw_ops.ReadVariableOp(resource=handle, dtype=variable.value.dtype)
        return tf.ensure_shape(tensor, variable.shape)

    groups = zip(handles, variables, strict=True)
    return Variables(*([value(*pair) for pair in zip(*group, strict=True)] for group in groups))


def assign(handles: Variables, values: Variables) -> None:
    """Assigns this replica's copies; `tf.Variable.assign` would ask for a rule to merge them."""
    for group in zip(handles, values, strict=True):
        for handle, value in zip(*group, strict=False):
            if value is not None:
                tf.raw_ops.AssignVariableOp(resource=handle, value=value)


def pairs(variables: Variables, values: Variables) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Returns the pairs of variables and their values."""
    groups = zip(variables, values, strict=True)
    return [pair for group in groups for pair in zip(*group, strict=True)]


class Changes(NamedTuple):
    """The contributions of pieces to the variables that are assigned; None: no contribution.

    Attributes:
        added: Terms whose sum over the pieces is the new value, or the change.
        own: New values.
    """

    added: list[tf.Tensor | None]
    own: list[tf.Tensor | None]


def changes(
    variables: Sequence[keras.Variable],
    kinds: Mapping[int, StateKind],
    start: Sequence[tf.Tensor],
    seeded: Sequence[tf.Tensor],
    new: Sequence[tf.Tensor],
    share: tf.Tensor,
) -> Changes:
    """Returns the changes of variables by a piece.

    Args:
        variables: The variables.
        kinds: Their kinds; a variable without one is not assigned.
        start: Their values before the step.
        seeded: The values at the start of the piece, whose seeds are its own.
        new: The values after the piece.
        share: The piece's share of the rows.
    """
    result = Changes([], [])
    for variable, s, a, b in zip(variables, start, seeded, new, strict=True):
        kind = kinds.get(id(variable))
        added = own = None
        if keras_internals.is_seed(variable) and kind is not None:
            own = s + (b - a)  # advanced as far as the piece's own seed
        elif kind == "mean":
            added = b * tf.cast(share, b.dtype)
        elif kind == "sum":
            added = (b - s) * tf.cast(share > 0, b.dtype)
        elif kind == "any":
            own = b
        result.added.append(added)
        result.own.append(own)
    return result


def changed(
    variables: Sequence[keras.Variable],
    kinds: Mapping[int, StateKind],
    start: Sequence[tf.Tensor],
    changes: Changes,
) -> list[tf.Tensor | None]:
    """Returns the values after the step; None: unchanged. `changes` is summed over the pieces."""

    def values() -> Iterator[tf.Tensor | None]:
        for variable, s, added, own in zip(variables, start, *changes, strict=True):
            if added is None:
                yield own
            else:
                yield s + added if kinds[id(variable)] == "sum" else added

    return list(values())


def of_piece(
    variables: Sequence[keras.Variable], values: Sequence[tf.Tensor], number: int | tf.Tensor
) -> list[tf.Tensor]:
    """Returns the values at the start of a piece, whose seeds are its own."""
    return [
        _seed_of_piece(value, number) if keras_internals.is_seed(variable) else value
        for variable, value in zip(variables, values, strict=True)
    ]


def _seed_of_piece(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    folded = tf.random.experimental.stateless_fold_in(tf.cast(seed, "int64"), number)
    return tf.where(tf.equal(number, 0), seed, tf.cast(folded, seed.dtype))


# Nested tensors, any of which may be None.


def added(a, b):
    """Adds two nested structures."""
    return tf.nest.map_structure(lambda x, y: None if x is None else x + y, a, b)


def tensors(nested) -> list[tf.Tensor]:
    """Returns the tensors of a nested structure."""
    return [tensor for tensor in tf.nest.flatten(nested) if tensor is not None]


def packed(nested, tensors: Sequence[tf.Tensor]):
    """Returns a nested structure with other tensors."""
    remaining = iter(tensors)
    flat = [None if tensor is None else next(remaining) for tensor in tf.nest.flatten(nested)]
    return tf.nest.pack_sequence_as(nested, flat)


def summed(context: tf.distribute.ReplicaContext, nested):
    """Sums each tensor over the replicas, with one collective for each data type."""
    flat = tensors(nested)
    result = [None] * len(flat)
    for dtype in dict.fromkeys(tensor.dtype for tensor in flat):
        places = [i for i, tensor in enumerate(flat) if tensor.dtype == dtype]
        packet = tf.concat([tf.reshape(flat[i], [-1]) for i in places], 0)
        sizes = [flat[i].shape.num_elements() for i in places]
        parts = tf.split(context.all_reduce("SUM", packet), sizes)
        for i, part in zip(places, parts, strict=True):
            result[i] = tf.reshape(part, flat[i].shape)
    return packed(nested, result)


def gathered(context: tf.distribute.ReplicaContext, nested, rows: tf.Tensor):
    """Returns the rows of all replicas, each of which contributes its first `rows` rows."""

    def gather(tensor):
        wide = tensor.dtype in (tf.bfloat16, tf.float16, tf.bool)  # not supported by collectives
        own = tf.cast(tensor, "float32") if wide else tensor
        every = tf.cast(context.all_gather(own[: tf.cast(rows, "int32")], 0), tensor.dtype)
        return tf.ensure_shape(every, [None, *tensor.shape[1:]])

    return packed(nested, [gather(tensor) for tensor in tensors(nested)])
