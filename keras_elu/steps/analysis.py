"""What follows from the parts of a model for the pieces of a batch, found before the first step.

The loss of a batch is the mean of those of its pieces, or their sum, and so is what a layer adds to
the loss or assigns to a variable. For the losses, layers and metrics of Keras it is known which.
All others are computed for a few random rows, whole and in two pieces: what is neither the mean nor
the sum of the pieces mixes rows, and is refused.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from keras_elu.steps import keras_internals, pieces, trials
from keras_elu.steps.isolated import outside, relaxed, spec

# How a variable after a step follows from its values after the pieces: their mean, the sum of their
# changes, or the value of any of them.
StateKind = Literal["mean", "sum", "any"]

_MIXING = {"dice", "tversky", "circle"}
_ON_ONE = "train on one replica with micro_batches=1"


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a step needs to know of its model.

    Attributes:
        losses: The kind of each loss.
        divided: Of each loss, whether it is divided by something else than the number of rows.
        sums_added: The places, among the losses that layers add, of those that are sums over rows.
        state: The kind of each variable that the step assigns, by its identity.
        untracked: Variables that the step assigns and that Keras does not track.
        gathered: Identities of the variables of metrics that must see the whole batch.
    """

    losses: tuple[pieces.Kind, ...]
    divided: tuple[bool, ...]
    sums_added: tuple[int, ...]
    state: dict[int, StateKind]
    untracked: tuple[keras.Variable, ...]
    gathered: frozenset[int]


@dataclasses.dataclass(frozen=True)
class _Observed:
    """What tracing a step has shown."""

    calls: dict[int, pieces.Call]
    divided: tuple[bool, ...]
    added: list[keras.Layer | None]  # the layer that added each loss
    assigned: dict[int, keras.Variable]
    assigns_unseen: bool  # a variable of TensorFlow's, which `keras.StatelessScope` does not see


def analyse(
    model: keras.Model, forward: Callable, batch, *, predicting: bool, in_pieces: bool
) -> Analysis:
    """Analyses a step of a built model.

    Args:
        model: The model.
        forward: Takes a batch and computes predictions, losses and metrics, or predictions alone.
        batch: The `tf.TypeSpec`s of a batch.
        predicting: Whether the step only predicts.
        in_pieces: Whether batches are cut, for several replicas or micro-batches.

    Raises:
        ValueError: With one sentence, if batches are cut and something mixes their rows.
    """
    observed = _observe(model, forward, batch)
    known = {id(v) for v in [*model.variables, *model.metrics_variables]}
    metrics = {id(variable) for variable in model.metrics_variables}
    assigned = {i: v for i, v in observed.assigned.items() if i not in metrics}
    untracked = tuple(v for i, v in assigned.items() if i not in known)
    number = len(observed.divided)
    if not in_pieces:
        state = dict.fromkeys(assigned, "any")
        return Analysis(("mean",) * number, (False,) * number, (), state, untracked, frozenset())
    if observed.assigns_unseen:
        raise ValueError(
            "A layer assigns a tf.Variable, which Keras does not track: create it with "
            f"add_weight, or {_ON_ONE}."
        )
    for layer in keras_internals.layers(model):
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"The layer {layer.name} is stateful, with a state for each row: set "
                f"stateful=False, or {_ON_ONE}."
            )
    kinds = () if predicting else _loss_kinds(model, observed)
    sums_added, state = _forward_kinds(model, observed, assigned, batch)
    gathered = frozenset() if predicting else _gathered(model)
    divided = tuple(d and k == "mean" for d, k in zip(observed.divided, kinds, strict=False))
    if not predicting:
        _check_compute_loss(model, kinds, sums_added, batch)
    return Analysis(kinds, divided, sums_added, state, untracked, gathered)


def is_keras(thing) -> bool:
    """Whether a function or the class of an object belongs to Keras or to this package."""
    thing = thing if hasattr(thing, "__qualname__") else type(thing)
    return thing.__module__.partition(".")[0] in ("keras", "keras_elu")


def is_all_keras(model: keras.Model) -> bool:
    """Whether all that a step computes belongs to Keras or to this package."""
    layers = keras_internals.layers(model)
    functions = [layer for layer in layers if isinstance(layer, keras.layers.Lambda)]
    activations = [a for layer in layers if (a := getattr(layer, "activation", None)) is not None]
    regularizers = [v.regularizer for v in model.trainable_variables if v.regularizer is not None]
    inner = [getattr(loss, "fn", loss) for loss in pieces.losses(model)]
    metrics = keras_internals.compiled_metrics(model)
    inner += [getattr(metric, "_fn", metric) for metric in metrics]
    optimizer = [] if model.optimizer is None else [model.optimizer]
    parts = [*layers[1:], *activations, *regularizers, *inner, *metrics, *optimizer]
    own = type(model).call is keras.Model.call or is_keras(type(model).call)
    return own and not functions and all(map(is_keras, parts))


def _observe(model, forward, batch) -> _Observed:
    """Traces the step, and changes nothing."""
    found = []

    def trace(batch):
        with (
            pieces.recorded_calls() as calls,
            keras_internals.Recording(_values(model), collect_losses=True) as scope,
        ):
            forward(batch)
        divided = []
        for number, loss in enumerate(pieces.losses(model)):
            call = calls.get(number)
            divided.append(call is not None and pieces.weight(loss, *call) is not None)
        layers = keras_internals.layers(model)
        added = [keras_internals.adder(layers, loss) for loss in scope.losses]
        specs = {n: pieces.Call(*tf.nest.map_structure(spec, call)) for n, call in calls.items()}
        found.append((specs, tuple(divided), added, scope.assigned))

    function = tf.function(trace, autograph=False)
    specs = tf.nest.map_structure(relaxed, batch)
    graph = outside(function.get_concrete_function, specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assigns = any(n.op.startswith("Assign") and n.op.endswith("VariableOp") for n in nodes)
    return _Observed(*found[-1], assigns)


def _values(model: keras.Model) -> list[tuple[keras.Variable, tf.Tensor]]:
    """The variables and their values, which regularisers read from the scope."""
    variables = {id(v): v for v in [*model.variables, *model.metrics_variables]}
    return [(v, tf.convert_to_tensor(v.value)) for v in variables.values()]


def _loss_kinds(model, observed) -> tuple[pieces.Kind, ...]:
    kinds = []
    for number, loss in enumerate(pieces.losses(model)):
        name = getattr(loss, "name", "loss")
        kind = {"sum": "sum", "none": "rows", None: "rows"}.get(loss.reduction, "mean")
        if not _is_known(loss) and (call := observed.calls.get(number)) is not None:
            kind = _kind_by_trial(loss, call)
        if kind is None:
            raise ValueError(
                f"The loss {name} of a batch is neither the mean nor the sum of those of its rows, "
                f"or fails for random rows: {_ON_ONE}."
            )
        kinds.append(kind)
    if "rows" in kinds and (len(set(kinds)) > 1 or any(observed.added) or _regularised(model)):
        raise ValueError(
            'A loss has the reduction "none", and there are other losses, to which Keras adds each '
            f'of its values: use the reduction "sum", or {_ON_ONE}.'
        )
    return tuple(kinds)


def _regularised(model) -> bool:
    return any(variable.regularizer is not None for variable in model.trainable_variables)


def _is_known(loss: keras.Loss) -> bool:
    """Whether a loss is one of Keras whose values are those of the rows."""
    function = getattr(loss, "fn", None)
    if type(loss) is keras_internals.LossFunctionWrapper:
        return is_keras(function) and function.__name__ not in _MIXING
    return is_keras(loss) and getattr(function, "__name__", "") not in _MIXING


def _kind_by_trial(loss, call) -> pieces.Kind | None:
    """The kind that a loss has for one-hot labels and probabilities, and for any others too.

    With rows that add up to 1, Dice is a mean: it does not mix what is the same in all rows.
    """
    kinds = []
    for one_hot in (True, False):
        with contextlib.suppress(Exception):  # whatever a function raises for random labels
            kinds.append(outside(_loss_trial, loss, call, one_hot))
    return kinds[0] if kinds and len(set(kinds)) == 1 else None


def _loss_trial(loss, call, one_hot: bool) -> pieces.Kind | None:
    def values(rows):
        value = np.asarray(loss(*rows), "float64")
        weight = pieces.weight(loss, *rows)
        return value, len(tf.nest.flatten(rows)[1]) if weight is None else float(weight)

    predictions = tf.nest.map_structure(
        trials.probabilities if one_hot else trials.uniform, call.y_pred
    )
    labels = trials.labels(call.y_true, call.y_pred, one_hot)
    weights = tf.nest.map_structure(trials.uniform, call.sample_weight)
    (whole, total), *parts = trials.whole_and_parts(values, (labels, predictions, weights))
    if np.ndim(whole):
        same = trials.close(whole, np.concatenate([np.atleast_1d(value) for value, _ in parts]))
        return "rows" if same else None
    shares = [weight / total for _, weight in parts]
    return trials.kind(whole, [value for value, _ in parts], shares)


def _forward_kinds(model, observed, assigned, batch):
    """Which added losses are sums, and the kinds of the variables that are assigned."""
    layers = keras_internals.layers(model)
    owners = {id(v): layer for layer in layers for v in keras_internals.own_variables(layer)}
    state = {}
    for identity, variable in assigned.items():
        if is_keras(owners.get(identity, assigned)) or keras_internals.is_seed(variable):
            floating = keras.backend.is_float_dtype(variable.dtype)
            averaged = floating and variable.aggregation != "only_first_replica"
            state[identity] = "mean" if averaged else "any"
    unknown = {i: v for i, v in assigned.items() if i not in state}
    added = {i: layer for i, layer in enumerate(observed.added) if not _adds_means(layer)}
    if not unknown and not added:
        return (), state
    found = None
    for training in (True, False):
        with contextlib.suppress(Exception):  # a model need not take random rows
            found = outside(_forward_trial, model, batch, training, unknown, added)
            if None not in [*found[0].values(), *found[1].values()]:
                break
    kinds, changes = found or (dict.fromkeys(added), dict.fromkeys(unknown))
    for number, kind in kinds.items():
        if kind is None:
            raise ValueError(
                f"The layer {added[number].name} adds a loss that is neither the mean nor the sum "
                f"of those of the rows: {_ON_ONE}."
            )
    for identity, kind in changes.items():
        if kind is None:
            raise ValueError(
                f"The change of the variable {unknown[identity].path} by a batch is neither the "
                f"mean nor the sum of those by its rows: {_ON_ONE}."
            )
    return tuple(n for n, kind in kinds.items() if kind == "sum"), state | changes


def _adds_means(layer) -> bool:
    regularizer = getattr(layer, "activity_regularizer", None)
    known = is_keras(layer) and not isinstance(layer, keras.layers.Lambda)
    orthogonal = isinstance(regularizer, keras.regularizers.OrthogonalRegularizer)
    return known and is_keras(regularizer or keras.Layer) and not orthogonal


def _forward_trial(model, batch, training, unknown, added):
    x, _, _ = keras.utils.unpack_x_y_sample_weight(tf.nest.map_structure(trials.random, batch))

    def results(x):
        with keras_internals.Recording(_values(model), collect_losses=True) as scope:
            keras_internals.call(model, x, training)
        losses = [np.asarray(tf.reduce_sum(loss), "float64") for loss in scope.losses]
        changes = {}
        for identity, variable in unknown.items():
            old = np.asarray(keras.ops.convert_to_numpy(variable.value), "float64")
            new = scope.get_current_value(variable)
            changes[identity] = (old if new is None else np.asarray(new, "float64")) - old
        return losses, changes

    (losses, changes), *parts = trials.whole_and_parts(results, x)
    shares = trials.FIRST / trials.ROWS, 1 - trials.FIRST / trials.ROWS
    kinds = {n: trials.kind(losses[n], [part[n] for part, _ in parts], shares) for n in added}
    state = {}
    for identity, variable in unknown.items():
        by_part = [part[identity] for _, part in parts]
        if all(np.array_equal(changes[identity], change) for change in by_part):
            state[identity] = "any"
        else:
            state[identity] = trials.kind(changes[identity], by_part, shares)
            if state[identity] == "mean" and not keras.backend.is_float_dtype(variable.dtype):
                state[identity] = None
    return kinds, state


def _check_compute_loss(model, kinds, sums_added, batch) -> None:
    """Refuses a model's own `compute_loss` whose value is not the mean over the rows."""
    if type(model).compute_loss is keras.Model.compute_loss:
        return

    def forward():
        rows = tf.nest.map_structure(trials.random, batch)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(rows)
        with keras_internals.Recording(_values(model), collect_losses=True):
            y_pred = keras_internals.call(model, x, False)
            labels = trials.labels(
                tf.nest.map_structure(spec, y), tf.nest.map_structure(spec, y_pred)
            )
            del y
            losses = []
            for begin, end in ((0, trials.ROWS), (0, trials.FIRST), (trials.FIRST, trials.ROWS)):
                cut = tf.nest.map_structure(
                    lambda t: None if t is None else t[begin:end],  # noqa: B023
                    (x, labels, y_pred, sample_weight),
                )
                count, total = tf.constant(float(end - begin)), tf.constant(float(trials.ROWS))
                piece = pieces.Piece(count, total, kinds, (None,) * len(kinds))
                with pieces.current(piece if "sum" in kinds else None):
                    losses.append(float(keras_internals.compute_loss(model, *cut, training=False)))
        return losses

    try:
        whole, first, second = outside(forward)
        share = trials.FIRST / trials.ROWS
        right = trials.close(whole, share * first + (1 - share) * second)
    except Exception:
        right = False
    if not right or sums_added:
        raise ValueError(
            f"compute_loss of {type(model).__name__} is not the mean of the losses of the rows, or "
            f"fails for random rows: {_ON_ONE}."
        )


def _gathered(model) -> frozenset[int]:
    """The variables of the metrics that are not known to be sums over rows."""
    own = keras_internals.own_metrics(model)
    for metric in model.metrics:
        if id(metric) not in own:
            raise ValueError(
                f"The metric {metric.name} is updated inside of the model, which sees a piece of "
                f"the batch: give it to compile as one of the metrics, or {_ON_ONE}."
            )
    if type(model).compute_metrics is not keras.Model.compute_metrics:
        raise ValueError(
            f"{type(model).__name__} overrides compute_metrics, which would see a piece of the "
            f"batch: give metrics to compile, or {_ON_ONE}."
        )
    metrics = [m for m in keras_internals.compiled_metrics(model) if not _is_sum_over_rows(m)]
    return frozenset(id(variable) for metric in metrics for variable in metric.variables)


def _is_sum_over_rows(metric: keras.metrics.Metric) -> bool:
    function = getattr(metric, "_fn", metric)
    name = getattr(function, "__name__", type(function).__name__).lower()
    return is_keras(metric) and is_keras(function) and name not in _MIXING
