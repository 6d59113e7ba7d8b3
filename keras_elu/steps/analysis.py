"""How a step on a whole batch follows from its pieces, found before the first step.

The loss of a batch is the mean or the sum of the losses of its pieces. The same is true of the
losses that layers add and of the variables that they assign. For Keras's own losses, layers and
metrics the rule is known. All others are tried on a few random rows, as a whole and in two pieces.
A value that is neither the mean nor the sum of its pieces mixes rows, and is refused.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals, loss_trials, network_trials, origin, pieces
from keras_elu.steps.isolated import outside, relaxed, spec


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The facts about a model that its step depends on.

    Attributes:
        losses: The kind of each loss.
        divided: Whether each loss is divided by something other than the number of rows.
        sums_added: Positions of the sums over rows among the losses that layers add.
        state: The kind of each variable that the step assigns, by its identity.
        untracked: Variables that the step assigns and that Keras does not track.
        gathered: Identities of the variables of metrics that need the whole batch.
    """

    losses: tuple[pieces.Kind, ...]
    divided: tuple[bool, ...]
    sums_added: tuple[int, ...]
    state: dict[int, network_trials.StateKind]
    untracked: tuple[keras.Variable, ...]
    gathered: frozenset[int]


@dataclasses.dataclass(frozen=True)
class _Observed:
    """The results of tracing a step."""

    calls: dict[int, pieces.Call]
    divided: tuple[bool, ...]
    added: list[keras.Layer | None]  # the layer that added each loss
    assigned: dict[int, keras.Variable]
    assigns_unseen: bool = False  # a tf.Variable, which `keras.StatelessScope` does not see


def analyse(
    model: keras.Model,
    forward: Callable,
    batch,
    *,
    training: bool,
    predicting: bool,
    in_pieces: bool,
) -> Analysis:
    """Analyses a step of a built model.

    Args:
        model: The model.
        forward: Takes a batch and computes predictions, losses and metrics, or predictions alone.
        batch: The `tf.TypeSpec`s of a batch.
        training: Whether the step trains.
        predicting: Whether the step only predicts.
        in_pieces: Whether batches are split, for several replicas or micro-batches.

    Raises:
        ValueError: With one sentence, if batches are split and something mixes their rows.
    """
    observed = _observe(model, forward, batch)
    own = {id(v) for v in model.metrics_variables}
    known = own | {id(v) for v in model.variables}
    metrics = set() if predicting else own  # which prediction changes only through layers
    assigned = {i: v for i, v in observed.assigned.items() if i not in metrics}
    untracked = tuple(v for i, v in assigned.items() if i not in known)
    number = len(observed.divided)
    if not predicting:
        loss_trials.check_compute_metrics(model, batch, in_pieces)
    if not in_pieces:
        mean: pieces.Kind = "mean"
        return Analysis(
            losses=(mean,) * number,
            divided=(False,) * number,
            sums_added=(),
            state=dict.fromkeys(assigned, "any"),
            untracked=untracked,
            gathered=frozenset(),
        )
    if observed.assigns_unseen:
        raise ValueError(
            "The step assigns a tf.Variable that Keras does not track: let a layer create it with "
            f"self.add_weight, or {origin.ON_ONE}."
        )
    replaced = [v.path for v in model.trainable_variables if v.overwrite_with_gradient]
    if training and replaced:
        raise ValueError(
            f"The gradient of {replaced[0]} is its new value, as in layers quantized to float8, "
            f"and no sum over replicas and micro-batches: {origin.ON_ONE}."
        )
    for layer in keras_internals.layers(model):
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"The layer {layer.name} is stateful, and the rows that its state belongs to would "
                f"be split: set stateful=False, or {origin.ON_ONE}."
            )
    _check_metrics(model, observed.assigned)
    kinds = () if predicting else loss_trials.kinds(model, observed.calls, any(observed.added))
    sums_added, state = network_trials.kinds(model, observed.added, assigned, batch, training)
    by_row = all(map(loss_trials.has_rows, observed.calls.values()))
    gathered = frozenset() if predicting else _gathered(model, by_row)
    divided = tuple(d and k == "mean" for d, k in zip(observed.divided, kinds, strict=False))
    if not predicting:
        loss_trials.check_compute_loss(model, kinds, sums_added, batch)
    return Analysis(kinds, divided, sums_added, state, untracked, gathered)


def _observe(model, forward, batch) -> _Observed:
    """Traces the step without changing anything."""
    found: list[_Observed] = []

    def trace(batch):
        with (
            pieces.recorded_calls() as calls,
            keras_internals.Recording(network_trials.values(model), collect_losses=True) as scope,
        ):
            forward(batch)
        divided = []
        for number, loss in enumerate(pieces.losses(model)):
            call = calls.get(number)
            divided.append(call is not None and pieces.weight(loss, *call) is not None)
        layers = keras_internals.layers(model)
        added = [keras_internals.adder(layers, loss) for loss in scope.losses]
        specs = {n: pieces.Call(*tf.nest.map_structure(spec, call)) for n, call in calls.items()}
        found.append(_Observed(specs, tuple(divided), added, scope.assigned))

    function = tf.function(trace, autograph=False)
    specs = tf.nest.map_structure(relaxed, batch)
    graph = outside(function.get_concrete_function, specs).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assigns = any(n.op.startswith("Assign") and n.op.endswith("VariableOp") for n in nodes)
    return dataclasses.replace(found[-1], assigns_unseen=assigns)


def _check_metrics(model, assigned) -> None:
    """Refuses metrics that layers, or the model itself, update with a piece of the batch."""
    own = keras_internals.own_metrics(model)
    for metric in model.metrics:
        updated = any(id(variable) in assigned for variable in metric.variables)
        if id(metric) not in own and updated:
            raise ValueError(
                f"The metric {metric.name} is updated inside the model, which sees only a piece of "
                f"the batch: pass the metric to compile, or {origin.ON_ONE}."
            )


def _gathered(model, by_row: bool) -> frozenset[int]:
    """Returns the variables of the metrics that are not known to be sums over rows."""
    metrics = keras_internals.compiled_metrics(model)
    metrics = [metric for metric in metrics if not (by_row and _is_sum_over_rows(metric))]
    return frozenset(id(variable) for metric in metrics for variable in metric.variables)


def _is_sum_over_rows(metric: keras.metrics.Metric) -> bool:
    function = getattr(metric, "_fn", metric)
    name = getattr(function, "__name__", type(function).__name__).lower()
    known = origin.is_keras(metric) and origin.is_keras(function)
    return known and name not in loss_trials.MIXING and not origin.may_span_rows(metric)
