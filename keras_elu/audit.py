"""Checks in a few steps that a trainer does the same on all its replicas as on one.

python -m keras_elu.audit trainers/imagenet.py --strategy mirrored
python -m keras_elu.launch --workers 2 --restarts 0 keras_elu/audit.py trainers/mnist.py

The flags are those of the trainer. The audit prints a table and creates no run folder. The exit
code is 0 if every check is ok, 1 if one is not, and 2 for a wrong command line.
"""

import dataclasses
import pathlib
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_elu import commands
from keras_elu.distributed import strategies
from keras_elu.distributed.replicas import Copies
from keras_elu.distributed.strategies import scope
from keras_elu.monitoring import losses, random_layers
from keras_elu.steps import keras_internals, step
from keras_elu.training import devices
from keras_elu.training.config import Config
from keras_elu.training.run import Run, prepare_run, prepare_script

STEPS = 8
_ONE = "one replica: nothing to compare"

# The tolerance for rounding, in units of the data type of the computations. With the same pieces
# only the order of sums differs, but the weights carry this difference on to the next step. After 8
# steps the recipes differed by up to 6 units in float32 and bfloat16. Mathematical errors, such as
# other masks or another weighting, change the result by a tenth to all of the update.
_UNITS = 16

# Near a tie, as at the corner of a ReLU or between two entries of a maximum, rounding decides which
# gradient counts. If a difference exceeds its tolerance, but is smaller than those of mathematical
# errors, one replica trains again from weights that differ in their last bits. Twice the difference
# that this makes is rounding, too.
_NUDGED = 8  # trainings, at most
_NUDGE = 4  # units, at most, by which they change the weights
_NEAR_TIE = 2.0**-5  # mathematical errors are greater


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        compared: The compared values.
        finding: The result, such as the largest difference.
        ok: Whether the check has passed.
    """

    compared: str
    finding: str
    ok: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Audits the trainer of a command line, prints the table, and returns the exit code.

    Args:
        arguments: The trainer's script and its flags. None: the process's own.
    """
    try:
        arguments = commands.trainer_arguments("keras_elu.audit", __doc__, arguments)
        recipe, strategy, run = prepare_script(arguments)
        _check_pieces(run.config, strategy)
    except ValueError as error:
        return commands.failure(error)
    config = run.config

    def on_one(micro_batches):
        alone = dataclasses.replace(config, strategy="default", micro_batches=micro_batches)
        return prepare_run(recipe, alone, strategies.strategy("default"))

    checks = audit(run, strategy, on_one, config.micro_batches)
    if devices.is_chief(config):
        print(
            f"{run.recipe} on {run.dataset.name}: {STEPS} steps of {config.batch_size} images, "
            f"replicas: {run.replicas}, micro-batches: {config.micro_batches}"
        )
        print(table(checks), flush=True)
    return 0 if all(check.ok for check in checks) else 1


def _check_pieces(config: Config, strategy: tf.distribute.Strategy) -> None:
    """Checks that replicas and micro-batches can be compared: all pieces have the same size."""
    if config.micro_batches == "auto":
        raise ValueError("--micro_batches auto cannot be audited: give a number.")
    pieces = strategy.num_replicas_in_sync * config.micro_batches
    if config.batch_size % pieces:
        raise ValueError(
            f"--batch_size {config.batch_size} cannot be audited: use a multiple of {pieces}, "
            "replicas times micro-batches."
        )


def audit(
    run: Run,
    strategy: tf.distribute.Strategy,
    on_one: Callable[[int], Run],
    micro_batches: int = 1,
) -> list[Check]:
    """Trains a few steps on all replicas and on one, and compares.

    Args:
        run: The run to audit. The audit uses its compiled functional model and its batches for
            training and validation, whose sizes must be multiples of the number of replicas times
            `micro_batches`.
        strategy: The strategy in whose scope the model was made.
        on_one: Prepares the same run, with the same initial weights, on one replica with the given
            number of micro-batches.
        micro_batches: The number of micro-batches that the model was compiled with.
    """
    trained = _train(run, strategy)
    state = _variables(run.model)
    over = [_agreement(f"{kind} over the replicas", strategy, state[kind]) for kind in state]
    as_on_one = _as_on_one(run.model, strategy, trained, on_one, micro_batches)
    reloaded = _reloaded(run, trained)
    random = _random(run.model, strategy)  # last, because it advances the model's seeds
    return _of_all_workers(strategy, [*_finite(trained), *over, random, *as_on_one, reloaded])


def _finite(trained: "_Trained") -> list[Check]:
    if not trained.non_finite:
        return []
    first = trained.non_finite[0]
    return [Check("losses", f"that of step {first} is not finite: lower --learning_rate", False)]


def table(checks: Sequence[Check]) -> str:
    """Returns the checks as aligned lines.

    Example:

    >>> print(table([Check("weights", "equal", True), Check("masks", "identical", False)]))
    weights  equal      ok
    masks    identical  NOT OK
    """
    rows = [(c.compared, c.finding, "ok" if c.ok else "NOT OK") for c in checks]
    first, second, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)


def _variables(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The variables that must agree, by kind."""
    metrics = {id(variable) for variable in model.metrics_variables}
    state = [v for v in model.non_trainable_variables if id(v) not in metrics]
    return {
        "weights": model.trainable_variables,
        "optimizer slots": model.optimizer.variables,
        "statistics": [v for v in state if _is_float(v)],
        "counters and seeds": [v for v in state if not _is_float(v)],
    }


def _is_float(variable: keras.Variable) -> bool:
    return keras.backend.is_float_dtype(variable.dtype)


def _agreement(compared: str, strategy, variables: Sequence[keras.Variable]) -> Check:
    if not variables:
        return Check(compared, "none", True)
    if strategy.num_replicas_in_sync == 1:
        return Check(compared, _ONE, True)
    apart = {}
    for variable, copies in zip(variables, Copies(strategy, variables).read(), strict=True):
        first, *others = copies
        if any(copy.tobytes() != first.tobytes() for copy in others):
            difference = [np.abs(copy.astype("float64") - first).max() for copy in others]
            apart[variable.path] = max(difference)
    if not apart:
        return Check(compared, f"{len(variables)} variables, equal in every bit", True)
    worst = max(apart, key=apart.get)
    found = f"{len(apart)} of {len(variables)} variables differ, {worst} by {apart[worst]:.1e}"
    return Check(compared, found, False)


@dataclasses.dataclass(frozen=True)
class _Trained:
    """Variables before and after training, the logs, and steps whose loss was not finite."""

    start: dict[str, list[np.ndarray]]
    end: dict[str, list[np.ndarray]]
    training: dict[str, float]
    validation: dict[str, float]
    non_finite: list[int]


def _train(run: Run, strategy: tf.distribute.Strategy, nudge: int | None = None) -> _Trained:
    """Trains and evaluates, from weights that differ in their last bits if `nudge` is a seed."""
    model = run.model
    if not model.optimizer.built:
        with scope(strategy):
            model.optimizer.build(model.trainable_variables)
    if nudge is not None:
        random, most = np.random.default_rng(nudge), _NUDGE * _unit(keras_internals.layers(model))
        for variable in model.trainable_variables:
            variable.assign(variable * (1 + random.uniform(-most, most, variable.shape)))
    start, non_finite = _values(model), losses.train_past_non_finite(model)
    history = model.fit(run.training(0), steps_per_epoch=STEPS, shuffle=False, verbose=0).history
    return _Trained(
        start=start,
        end=_values(model),
        training={name: value for name, (value,) in history.items()},
        validation=_evaluate(model, run),
        non_finite=non_finite,
    )


def _values(model) -> dict[str, list[np.ndarray]]:
    return {
        kind: [keras.ops.convert_to_numpy(v).astype("float64") for v in variables if _is_float(v)]
        for kind, variables in _variables(model).items()
    }


def _evaluate(model, run) -> dict[str, float]:
    return model.evaluate(run.validation.take(STEPS), verbose=0, return_dict=True)


def _as_on_one(model, strategy, here: _Trained, on_one, micro_batches) -> list[Check]:
    """Compares with one replica that processes the same pieces, and with one without pieces.

    The latter differs if a layer's results depend on the pieces, as with dropout and batch
    normalisation, and is left out then.
    """
    layers = keras_internals.layers(model)
    replicas = strategy.num_replicas_in_sync
    normalizations = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    synchronized = any(map(step.is_synchronized, normalizations))
    references = {}
    if replicas > 1:
        references["one replica"] = 1 if synchronized else replicas * micro_batches
    if replicas * micro_batches > 1 and not normalizations and not random_layers.find(model):
        references["one replica, whole batches"] = 1
    checks, strategy = [], strategies.strategy("default")
    for name, pieces in references.items():
        there = _train(on_one(pieces), strategy)
        parts = _compared(here, there, layers)
        for seed in range(_NUDGED):
            if _agree(parts) or not _agree(parts, _NEAR_TIE):
                break
            nudged = _compared(_train(on_one(pieces), strategy, nudge=seed), there, layers)
            parts = {kind: _widened(parts[kind], nudged[kind]) for kind in parts}
        checks += [_to_rounding(f"{kind} as on {name}", parts[kind]) for kind in parts]
    return checks or [Check("training as on one replica", _ONE, True)]


_Parts = dict[str, tuple[float, float]]  # a difference and its tolerance, by name


def _compared(here: _Trained, there: _Trained, layers) -> dict[str, _Parts]:
    evaluated = _logs(here.validation, there.validation, layers)
    return {
        "training metrics": _logs(here.training, there.training, layers),
        "validation and weights": evaluated | _updates(here, there, layers),
    }


def _agree(parts: dict[str, _Parts], least: float = 0.0) -> bool:
    """Whether no difference exceeds its tolerance, and `least`."""
    both = (part for kind in parts.values() for part in kind.values())
    return all(apart <= max(bound, least) for apart, bound in both)


def _widened(parts: _Parts, nudged: _Parts) -> _Parts:
    """Returns the parts with tolerances of at least twice the differences of nudged weights."""
    return {
        name: (apart, max(bound, min(2 * np.nan_to_num(nudged[name][0]), _NEAR_TIE)))
        for name, (apart, bound) in parts.items()
    }


def _to_rounding(compared: str, parts: _Parts) -> Check:
    """Compares each difference with its tolerance for rounding."""
    name, (apart, bound) = max(
        parts.items(), key=lambda part: np.nan_to_num(part[1][0] / part[1][1], nan=np.inf)
    )
    finding = f"largest difference {apart:.1e} of {name}, rounding: {bound:.1e}"
    return Check(compared, finding if apart else "equal in every bit", apart <= bound)


def _logs(here: dict, there: dict, layers) -> _Parts:
    """The differences of losses and metrics, relative where they are greater than 1."""
    return {
        name: (
            float(_difference(here[name], there[name])) / max(1.0, abs(there[name])),
            _UNITS * _unit(layers),
        )
        for name in there
    }


def _updates(here: _Trained, there: _Trained, layers) -> _Parts:
    """The differences of the variables of each kind, relative to their change in training."""
    parts = {}
    for kind, end in there.end.items():
        change = _norm(map(_finite_part, map(np.subtract, end, there.start[kind]))) or 1.0
        apart = _norm(map(_difference, here.end[kind], end))
        rounded = STEPS * 2.0**-23 * _norm(map(_finite_part, end))  # each step rounds the variables
        parts[kind] = apart / change, _UNITS * _unit(layers) + rounded / change
    return parts


def _norm(arrays) -> float:
    return float(np.sqrt(sum(np.square(array).sum() for array in arrays)))


def _difference(a, b) -> np.ndarray:
    """The absolute difference, which is 0 for two NaNs or infinities that are the same."""
    same = np.equal(a, b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.where(same, 0.0, np.abs(np.subtract(a, b)))


def _finite_part(array) -> np.ndarray:
    return np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)


def _unit(layers) -> float:
    """The step from 1 to the next number in the coarsest data type that a layer computes in."""
    tf32 = (
        tf.config.list_logical_devices("GPU")
        and tf.config.experimental.tensor_float_32_execution_enabled()
    )
    bits = {"bfloat16": 7, "float16": 10, "float32": 10 if tf32 else 23}
    return max(2.0 ** -bits.get(layer.compute_dtype, 52) for layer in layers)


def _random(model, strategy) -> Check:
    compared = "dropout masks over the replicas"
    layers = random_layers.find(model)
    if not layers:
        return Check(compared, "no random layers", True)
    if strategy.num_replicas_in_sync == 1:
        return Check(compared, _ONE, True)
    same = [layer.name for layer in layers if not random_layers.differs(layer, model, strategy)]
    if same:
        return Check(compared, f"identical on several replicas: {', '.join(same)}", False)
    return Check(compared, f"differ: {', '.join(layer.name for layer in layers)}", True)


def _reloaded(run: Run, trained: _Trained) -> Check:
    compared = "evaluation of the saved model"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        try:
            run.model.save(path)
            plain = keras.models.load_model(path)
        except Exception as error:  # any error of a layer is the finding
            reason = str(error).rpartition("Exception encountered: ")[
                2
            ]  # without Keras's introduction
            return Check(compared, f"cannot be loaded: {textwrap.shorten(reason, 80)}", False)
    layers = keras_internals.layers(plain)
    return _to_rounding(compared, _logs(_evaluate(plain, run), trained.validation, layers))


def _of_all_workers(strategy, checks: list[Check]) -> list[Check]:
    """Makes a check ok only if all workers agree."""
    failed = tf.constant([float(not check.ok) for check in checks])

    def total():
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(failed)), axis=None)

    return [
        dataclasses.replace(check, ok=not count)
        for check, count in zip(checks, tf.function(total, autograph=False)().numpy(), strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
