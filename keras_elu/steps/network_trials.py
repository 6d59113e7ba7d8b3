"""Trials of layers: how their outputs, assignments and losses follow from pieces of a batch."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_elu.steps import keras_internals, trials
from keras_elu.steps.origin import ON_ONE, PIECES, is_keras, is_known, is_known_network
from keras_elu.steps.pieces import Kind

# How a variable after a step follows from its values after the pieces: their mean, the sum of their
# changes, or any one of them.
StateKind = Literal["mean", "sum", "any"]


class _Trial(NamedTuple):
    """The outcome of a trial, where None means that rows are mixed.

    Attributes:
        added: The kinds of the losses that written layers add, by their positions.
        changes: The kinds of the variables that written layers assign, by their identities.
        by_row: Whether each row of the outputs depends on that row of the inputs alone.
    """

    added: dict[int, Kind | None]
    changes: dict[int, StateKind | None]
    by_row: bool


def kinds(
    model: keras.Model,
    added: Sequence[keras.Layer | None],
    assigned: Mapping[int, keras.Variable],
    batch,
    training: bool,
) -> tuple[tuple[int, ...], dict[int, StateKind]]:
    """Returns the positions of the added losses that are sums, and the kinds of the variables.

    Args:
        model: The model.
        added: The layer that added each loss.
        assigned: The variables that are assigned, by their identities.
        batch: The `tf.TypeSpec`s of a batch.
        training: Whether the model is called for training.

    Raises:
        ValueError: With one sentence, if something mixes the rows of a batch.
    """
    layers = keras_internals.layers(model)
    owners = {id(v): layer for layer in layers for v in keras_internals.own_variables(layer)}
    state: dict[int, StateKind] = {}
    for identity, variable in assigned.items():
        owner = owners.get(identity)
        if keras_internals.is_seed(variable) or (owner is not None and is_keras(owner)):
            floating = keras.backend.is_float_dtype(variable.dtype)
            averaged = floating and variable.aggregation != "only_first_replica"
            state[identity] = "mean" if averaged else "any"
    unknown = {i: v for i, v in assigned.items() if i not in state}
    written = {i: layer for i, layer in enumerate(added) if not _adds_means(layer)}
    if not unknown and not written and is_known_network(model):
        return (), state

    def trial() -> _Trial:
        arguments = model, batch, training, unknown, written, len(added)
        with contextlib.suppress(Exception):
            return _trial(*arguments, length=8)
        return _trial(*arguments, length=64)  # which deep convolutions need

    found = trials.attempt("The model", trial)
    for identity, kind in found.changes.items():
        if kind is None:
            raise ValueError(
                f"A layer assigns the variable {unknown[identity].path} a value that mixes the "
                f"rows of a batch, and {PIECES}: {ON_ONE}."
            )
    for number, kind in found.added.items():
        if kind is None:
            name = getattr(written[number], "name", model.name)
            raise ValueError(
                f"The layer {name} adds a loss that mixes the rows of a batch: add their mean or "
                f"their sum, or {ON_ONE}."
            )
    if not found.by_row:
        raise ValueError(
            f"The outputs for a row depend on the other rows of the batch, and {PIECES}: {ON_ONE}."
        )
    state |= {identity: kind for identity, kind in found.changes.items() if kind}
    return tuple(n for n, kind in found.added.items() if kind == "sum"), state


def values(model: keras.Model) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Returns the variables and their values, for a `keras.StatelessScope`."""
    variables = {id(v): v for v in [*model.variables, *model.metrics_variables]}
    return [(v, tf.convert_to_tensor(v.value)) for v in variables.values()]


def _adds_means(layer) -> bool:
    regularizer = getattr(layer, "activity_regularizer", None)
    known = is_keras(layer) and not isinstance(layer, keras.layers.Lambda)
    orthogonal = isinstance(regularizer, keras.regularizers.OrthogonalRegularizer)
    return known and is_keras(regularizer or keras.Layer) and not orthogonal


def _trial(model, batch, training, unknown, written, number_added, length) -> _Trial:
    rows = tf.nest.map_structure(lambda spec: trials.random(spec, length), batch)
    x, _, _ = keras.utils.unpack_x_y_sample_weight(rows)
    layers = keras_internals.layers(model)
    # Dropout and batch normalisation differ by piece in training, as documented.
    known = [x for x in layers[1:] if all(map(is_known, keras_internals.layers(x)))]
    draws = False

    def results(x):
        nonlocal draws
        with (
            keras_internals.Recording(values(model), collect_losses=True) as scope,
            keras_internals.inference(known),
        ):
            outputs = keras_internals.call(model, x, training)
        if len(scope.losses) != number_added:
            raise ValueError("the number of added losses changes")
        losses = [np.asarray(tf.reduce_sum(loss), "float64") for loss in scope.losses]
        changes = {}
        for identity, variable in unknown.items():
            old = np.asarray(keras.ops.convert_to_numpy(variable.value), "float64")
            new = scope.get_current_value(variable)
            changes[identity] = (old if new is None else np.asarray(new, "float64")) - old
        draws = draws or any(map(keras_internals.is_seed, scope.assigned.values()))
        return losses, changes, [_numpy(tensor) for tensor in tf.nest.flatten(outputs)]

    tolerance = trials.tolerance(layers)
    (losses, changes, outputs), *parts = trials.whole_and_parts(results, x)
    shares = trials.FIRST / trials.ROWS, 1 - trials.FIRST / trials.ROWS
    added = {
        n: trials.kind(losses[n], [part[0][n] for part in parts], shares, tolerance)
        for n in written
    }
    # A maximum, for example, may change only where the inputs are larger.
    larger = results(tf.nest.map_structure(_larger, x))[1] if unknown else {}
    kinds: dict[int, StateKind | None] = {}
    for identity, variable in unknown.items():
        by_part = [part[1][identity] for part in parts]
        if all(np.array_equal(changes[identity], change) for change in by_part):
            same = np.array_equal(changes[identity], larger[identity])
            kinds[identity] = "any" if same else None
            continue
        kind = trials.kind(changes[identity], by_part, shares, tolerance)
        whole_numbers = not keras.backend.is_float_dtype(variable.dtype)
        if kind == "rows" or (kind == "mean" and whole_numbers):
            kind = None
        kinds[identity] = kind
    joined = [_joined(rows) for rows in zip(*(part[2] for part in parts), strict=True)]
    by_row = all(trials.close(a, b, tolerance) for a, b in zip(outputs, joined, strict=True))
    if draws:  # so that the rows of a part have other random numbers than in the whole
        if None in added.values():
            added = _kinds_of_random(added, lambda x: results(x)[0], x, tolerance)
        if not by_row:
            others = results(_changed(x, range(trials.FIRST, trials.ROWS)))[2]
            pairs = zip(map(_first_rows, outputs), map(_first_rows, others), strict=True)
            by_row = all(trials.close(a, b, tolerance) for a, b in pairs)
    if not by_row:  # unless the outputs have random numbers that Keras does not know of
        by_row = not all(map(trials.close, outputs, results(x)[2]))
    return _Trial(added, kinds, by_row)


def _kinds_of_random(added, losses: Callable, x, tolerance) -> dict[int, Kind | None]:
    """Returns the kinds of losses that depend on random numbers, which belong to rows by place.

    Each row changes a mean or a sum by the same amount, for any values of the other rows.
    """
    first, others = range(1), range(1, trials.ROWS)
    change, beside_others, of_few = (
        [b - a for a, b in zip(losses(rows), losses(_changed(rows, first)), strict=True)]
        for rows in (x, _changed(x, others), trials.cut(x, 0, trials.FIRST))
    )

    def kind(n: int) -> Kind | None:
        if not trials.close(change[n], beside_others[n], tolerance):
            return None
        share = trials.FIRST / trials.ROWS
        return trials.kind(change[n], [of_few[n]], [share], tolerance)

    return {n: kind(n) for n in added}


def _changed(x, rows: Collection[int]):
    """Returns rows of which some have other values."""

    def changed(tensor):
        if tensor.dtype == tf.string:
            return tensor
        other = ~tensor if tensor.dtype == tf.bool else 1 - tensor
        here = np.isin(np.arange(len(tensor)), list(rows))
        return tf.where(here.reshape(-1, *[1] * (len(tensor.shape) - 1)), other, tensor)

    return tf.nest.map_structure(changed, x)


def _first_rows(output: np.ndarray) -> np.ndarray:
    return np.atleast_1d(output)[: trials.FIRST]


def _numpy(tensor) -> np.ndarray:
    if tensor.dtype in (tf.bfloat16, tf.float16):
        tensor = tf.cast(tensor, "float32")
    return tensor.numpy()


def _larger(tensor):
    return 1000 * tensor if tensor.dtype.is_floating else tensor


def _joined(parts):
    return np.concatenate([np.atleast_1d(part) for part in parts])
