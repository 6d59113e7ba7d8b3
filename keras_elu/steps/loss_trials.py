"""Trials of losses: how the loss of a batch follows from the losses of its pieces."""

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_elu.steps import keras_internals, network_trials, pieces, trials
from keras_elu.steps.isolated import outside, spec
from keras_elu.steps.origin import ON_ONE, PIECES, is_keras, may_span_rows

MIXING = {"dice", "tversky", "circle"}  # Keras's losses that mix rows


def kinds(
    model: keras.Model, calls: dict[int, pieces.Call], added: bool
) -> tuple[pieces.Kind, ...]:
    """Returns the kind of each loss of a model.

    Args:
        model: The model.
        calls: The `tf.TypeSpec`s of the arguments of each loss, by its number.
        added: Whether layers add losses.
    """
    by_reduction: dict[str | None, pieces.Kind] = {"sum": "sum", "none": "rows", None: "rows"}
    found: list[pieces.Kind] = []
    for number, loss in enumerate(pieces.losses(model)):
        kind = by_reduction.get(loss.reduction, "mean")
        call = calls.get(number)
        if call is not None and not (_is_known(loss) and has_rows(call)):
            kind = _kind_by_trial(loss, call)
        found.append(kind)
    added = added or any(v.regularizer is not None for v in model.trainable_variables)
    if "rows" in found and (len(set(found)) > 1 or added):
        raise ValueError(
            'A loss with reduction="none" is combined with another loss or a regularizer, which '
            f'replicas and micro-batches cannot do: use reduction="sum", or {ON_ONE}.'
        )
    return tuple(found)


def _is_known(loss: keras.Loss) -> bool:
    """Returns whether a loss is one of Keras's that have a value for each row."""
    function = getattr(loss, "fn", None)
    if may_span_rows(loss):
        return False
    if type(loss) is keras_internals.LossFunctionWrapper:
        return is_keras(function) and getattr(function, "__name__", "") not in MIXING
    return is_keras(loss) and getattr(function, "__name__", "") not in MIXING


def has_rows(call: pieces.Call) -> bool:
    """Returns whether rows of predictions have axes, along which Keras's losses compute."""
    return all(len(spec.shape) > 1 for spec in tf.nest.flatten(call.y_pred))


def _kind_by_trial(loss, call) -> pieces.Kind:
    """Returns the kind of a loss, which must be the same for every sort of labels."""
    name = f"The loss {getattr(loss, 'name', 'loss')}"
    found = _found(name, call.y_true, call.y_pred, lambda *rows: _loss_trial(loss, call, *rows))
    if len(found) > 1 or None in found:
        by_axis = getattr(loss, "fn", None) in (keras.losses.dice, keras.losses.tversky)
        by_axis = by_axis or may_span_rows(loss)
        advice = "pass it an axis without the rows, or " if by_axis else ""
        raise ValueError(f"{name} mixes the rows of a batch, and {PIECES}: {advice}{ON_ONE}.")
    return next((kind for kind in found if kind), "mean")  # a loss that is always zero


def _found(name: str, y_true, y_pred, trial: Callable) -> set[pieces.Kind | None]:
    """Returns the kinds that a trial finds for all labels and predictions that it accepts."""

    def found() -> set:
        results: list[set] = []
        error = None
        rows = trials.labels_and_predictions(y_true, y_pred)
        while True:
            try:
                results.append(trial(*next(rows)))
            except StopIteration:
                break
            except Exception as raised:  # a loss need not accept all labels
                error = raised
        if not results and error:
            raise error
        return set().union(*results)

    return trials.attempt(name, found)


def _loss_trial(loss, call, labels, predictions) -> set[pieces.Kind | None]:
    """Returns the kind of a loss, or nothing where the loss is zero in every piece."""

    def values(rows):
        value = np.asarray(loss(*rows), "float64")
        weight = pieces.weight(loss, *rows)
        return value, len(tf.nest.flatten(rows)[1]) if weight is None else float(weight)

    weights = tf.nest.map_structure(trials.uniform, call.sample_weight)
    (whole, total), *parts = trials.whole_and_parts(values, (labels, predictions, weights))
    if not all(np.all(np.isfinite(value)) for value in (whole, *(value for value, _ in parts))):
        raise ValueError("the loss is not finite")
    if np.ndim(whole):
        same = trials.close(whole, np.concatenate([np.atleast_1d(value) for value, _ in parts]))
        return {"rows" if same else None}
    if not any([whole, *(value for value, _ in parts)]):
        return set()
    shares = [weight / total for _, weight in parts]
    return {trials.kind(whole, [value for value, _ in parts], shares)}


def check_compute_loss(model, loss_kinds, sums_added, batch) -> None:
    """Refuses an overridden `compute_loss` whose value is not the mean over the rows."""
    if type(model).compute_loss is keras.Model.compute_loss:
        return
    name = f"The compute_loss of {type(model).__name__}"
    x, y, sample_weight, y_pred = trials.attempt(name, _random_step, model, batch)

    def trial(labels, predictions):
        losses = []
        for begin, end in ((0, trials.ROWS), (0, trials.FIRST), (trials.FIRST, trials.ROWS)):
            cut = trials.cut((x, labels, predictions, sample_weight), begin, end)
            count, total = tf.constant(float(end - begin)), tf.constant(float(trials.ROWS))
            piece = pieces.Piece(count, total, loss_kinds, (None,) * len(loss_kinds))
            with pieces.current(piece if "sum" in loss_kinds else None), _recording(model):
                losses.append(float(keras_internals.compute_loss(model, *cut, training=False)))
        if not np.all(np.isfinite(losses)):
            raise ValueError("the loss is not finite")
        share = trials.FIRST / trials.ROWS
        mean = share * losses[1] + (1 - share) * losses[2]
        return {"mean" if trials.close(losses[0], mean) else None}

    y, y_pred = (tf.nest.map_structure(spec, tensors) for tensors in (y, y_pred))
    if sums_added or _found(name, y, y_pred, trial) != {"mean"}:
        raise ValueError(f"{name} mixes the rows of a batch, and {PIECES}: {ON_ONE}.")


def check_compute_metrics(model, batch, in_pieces: bool) -> None:
    """Refuses an overridden `compute_metrics` that returns more than the model's metrics."""
    if type(model).compute_metrics is keras.Model.compute_metrics:
        return
    name = type(model).__name__
    if in_pieces:
        raise ValueError(
            f"{name} overrides compute_metrics, which would see only a piece of the batch: pass "
            f"metrics to compile, or {ON_ONE}."
        )

    def returns_metrics():
        x, y, sample_weight, y_pred = _random_step(model, batch)
        labels = trials.labels(*(tf.nest.map_structure(spec, t) for t in (y, y_pred)))
        with _recording(model):
            logs = model.compute_metrics(x, labels, y_pred, sample_weight)
            expected = model.get_metrics_result()
        same = logs.keys() == expected.keys()
        return same and all(np.allclose(logs[n], expected[n], equal_nan=True) for n in logs)

    right = False
    with contextlib.suppress(Exception):  # a metric need not accept random rows
        right = outside(returns_metrics)
    if not right:
        raise ValueError(
            f"{name} overrides compute_metrics, but does not return the results of its metrics: "
            "override get_metrics_result, or pass metrics to compile."
        )


def _recording(model):
    return keras_internals.Recording(network_trials.values(model), collect_losses=True)


def _random_step(model, batch):
    """Returns random inputs, labels and sample weights, and the predictions."""
    rows = tf.nest.map_structure(trials.random, batch)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(rows)
    with _recording(model):
        return x, y, sample_weight, keras_internals.call(model, x, False)
