"""The audit passes correct trainers, and finds every injected fault."""

import os
import pathlib
import re
import subprocess
import sys
import textwrap
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import audit, doctor
from keras_elu.distributed import strategies
from keras_elu.distributed.model import DistributedModel
from keras_elu.steps import variables

ROOT = pathlib.Path(__file__).parents[1]
MIRRORED = strategies.strategy("mirrored")
BATCH = 16

WEIGHTS = "weights over the replicas"
SLOTS = "optimizer slots over the replicas"
STATISTICS = "statistics over the replicas"
SEEDS = "counters and seeds over the replicas"
MASKS = "dropout masks over the replicas"
METRICS = "training metrics as on one replica"
AFTERWARDS = "validation and weights as on one replica"
WHOLE = ", whole batches"
RELOADED = "evaluation of the saved model"


def prepared(
    strategy, micro_batches=1, *, kind=DistributedModel, layers=None, rate=0.05, **arguments
):
    """A small network with batch normalisation and dropout, or with `layers()`, and its data."""
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(0)
    images = random.normal(2, 1, size=(BATCH * 8, 6)).astype("float32")
    labels = random.integers(0, 3, len(images))
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH)
    if kind is not keras.Model:
        arguments["micro_batches"] = micro_batches
    arguments.setdefault("jit_compile", False)
    with strategy.scope():
        x = inputs = keras.Input((6,))
        middle = (
            [keras.layers.BatchNormalization(momentum=0.5), keras.layers.Dropout(0.5)]
            if layers is None
            else layers()
        )
        for layer in [keras.layers.Dense(32), *middle, keras.layers.Dense(3)]:
            x = layer(x)
        model = kind(inputs, x)
        model.compile(
            keras.optimizers.SGD(rate, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **arguments,
        )
    return types.SimpleNamespace(
        model=model, training=lambda start: batches.repeat(), validation=batches
    )


def checks(strategy=MIRRORED, micro_batches=1, kind=DistributedModel, after=None, **arguments):
    """The findings on that network; `after(model, history)` is called after training."""
    run = prepared(strategy, micro_batches, kind=kind, **arguments)
    if after:
        fit = run.model.fit

        def fit_and_more(*arguments, **keywords):
            history = fit(*arguments, **keywords)
            after(run.model, history.history)
            return history

        run.model.fit = fit_and_more
    default = strategies.strategy("default")
    return audit.audit(
        run, strategy, lambda parts: prepared(default, parts, **arguments), micro_batches
    )


def failed(found):
    return [check.compared for check in found if not check.ok]


def plain():
    return [keras.layers.Activation("elu")]


RIGHT = {
    "one micro-batch": {},
    "two micro-batches": {"micro_batches": 2},
    "XLA": {"jit_compile": True, "micro_batches": 2},
    "neither batch normalisation nor dropout": {"layers": plain, "micro_batches": 2},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "one replica": {"strategy": strategies.strategy("default")},
}


def cases(table, *fast):
    """The cases of a table, of which all but the named ones are slow."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=() if name in fast else pytest.mark.slow,
        )
        for name, case in table.items()
    ]


@pytest.mark.parametrize(
    "arguments",
    cases(RIGHT, "one micro-batch", "neither batch normalisation nor dropout", "one replica"),
)
def test_what_is_right_passes(arguments):
    arguments = dict(arguments)
    keras.config.set_dtype_policy(arguments.pop("precision", "float32"))
    found = checks(**arguments)
    assert failed(found) == [], audit.table(found)
    lines = {check.compared: check.finding for check in found}
    assert RELOADED in lines
    if "strategy" in arguments:
        assert "one replica: nothing to compare" in lines[WEIGHTS]
    elif arguments.get("layers") is plain:
        assert lines[MASKS] == "no random layers"
        assert METRICS + WHOLE in lines
    else:
        assert lines[MASKS].startswith("differ: dropout")
        assert lines[SEEDS].startswith("1 variables, equal")
        assert {METRICS, AFTERWARDS} < set(lines)
        assert METRICS + WHOLE not in lines


def test_the_table_shows_the_finding_of_every_check():
    lines = audit.table(checks(micro_batches=2)).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        WEIGHTS,
        SLOTS,
        STATISTICS,
        SEEDS,
        MASKS,
        METRICS,
        AFTERWARDS,
        RELOADED,
    ]
    assert all(line.endswith("  ok") for line in lines)


# The variable of which one replica's copy changes after training, and the line that reports it.
COPIES = {
    "a weight": (lambda model: model.trainable_variables[0], WEIGHTS),
    "an optimizer slot": (lambda model: model.optimizer.variables[-1], SLOTS),
    "a moving mean": (lambda model: model.layers[2].moving_mean, STATISTICS),
    "a seed": (lambda model: model.layers[3].seed_generator.state, SEEDS),
}


@pytest.mark.parametrize(("variable", "line"), cases(COPIES, "a weight"))
def test_a_replica_whose_variable_differs_is_found(variable, line):
    def after(model, history):
        copy = MIRRORED.experimental_local_results(variable(model).value)[1]
        copy.assign(copy + tf.ones_like(copy))

    found = checks(after=after)
    (check,) = [check for check in found if check.compared == line]
    assert not check.ok
    assert "by 1.0e+00" in check.finding
    others = {WEIGHTS, SLOTS, STATISTICS, SEEDS, METRICS} - {line}
    assert others.isdisjoint(failed(found))


@keras.saving.register_keras_serializable("audit_test")
class SameMask(keras.layers.Dropout):
    def call(self, inputs, training=False):
        self.seed_generator.next()  # without a new seed, the layer would be refused
        return keras.random.dropout(inputs, 0.5, seed=7) if training else inputs


@keras.saving.register_keras_serializable("audit_test")
class Forgetful(keras.layers.Layer):
    factor = 2.0

    def call(self, inputs):
        return inputs * self.factor


def forgetful():
    layer = Forgetful()
    layer.factor = 1.0
    return [layer]


class Unknown(keras.layers.Layer):
    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("audit_test")
class CountsRows(keras.layers.Layer):
    def call(self, inputs):
        rows = keras.ops.maximum(keras.ops.shape(inputs)[0], 5)  # a trial has five, and refuses
        return inputs * keras.ops.cast(rows, inputs.dtype) / 8


FAULTS = {
    "a layer that draws the same mask": (lambda: [SameMask(0.5)], [MASKS]),
    "a layer that changes when it is loaded": (forgetful, [RELOADED]),
    "a layer that cannot be loaded": (lambda: [Unknown()], [RELOADED]),
    "a layer that depends on the pieces of a batch": (
        lambda: [CountsRows()],
        [AFTERWARDS, METRICS + WHOLE, AFTERWARDS + WHOLE, RELOADED],
    ),
}


@pytest.mark.parametrize(
    ("layers", "lines"),
    cases(FAULTS, "a layer that draws the same mask", "a layer that cannot be loaded"),
)
def test_a_layer_with_a_fault_is_found(layers, lines):
    found = checks(layers=layers)
    assert failed(found) == lines, audit.table(found)


@pytest.mark.slow
def test_gradients_that_are_not_those_of_the_global_batch_are_found(monkeypatch):
    right = variables.summed

    def half(context, nested):
        loss, *rest = right(context, nested)
        return [loss, *variables.packed(rest, [tensor / 2 for tensor in variables.tensors(rest)])]

    monkeypatch.setattr(variables, "summed", half)
    assert {METRICS, AFTERWARDS} <= set(failed(checks()))


def test_replicas_that_do_not_communicate_are_found(monkeypatch):
    monkeypatch.setattr(variables, "summed", lambda context, tensors: tensors)
    assert {WEIGHTS, SLOTS, STATISTICS, METRICS, AFTERWARDS} <= set(failed(checks()))


def test_seeds_that_are_not_folded_are_found(monkeypatch):
    monkeypatch.setattr(variables, "_seed_of_piece", lambda seed, number: seed)
    assert failed(checks()) == [MASKS]


@pytest.mark.slow
def test_metrics_that_are_off_by_one_example_are_found():
    def after(model, history):
        history["accuracy"][0] += 1 / (BATCH * audit.STEPS)

    assert failed(checks(after=after)) == [METRICS]


@pytest.mark.slow
def test_stock_keras_fails_for_its_moving_statistics_and_its_masks():
    found = failed(checks(kind=keras.Model, jit_compile=False))
    assert {STATISTICS, MASKS, AFTERWARDS} <= set(found)
    assert {WEIGHTS, SLOTS}.isdisjoint(found)


TRAINER = """
import types
import keras
from keras_elu.recipes import mnist as original
recipe = types.ModuleType("recipe", "A recipe with a fault.")
recipe.Config, recipe.datasets = original.Config, original.datasets
recipe.DEFAULTS = original.DEFAULTS
recipe.LEARNING_RATE_SCHEDULE = original.LEARNING_RATE_SCHEDULE
class Mask(keras.layers.Dropout):
    def call(self, inputs, training=False):
        self.seed_generator.next()
        return keras.random.dropout(inputs, 0.5, seed=7) if training else inputs
def build(config, dataset, steps, make=original.build):
    network, arguments = make(config, dataset, steps)
    masked = Mask(0.5)(network.outputs[0]) if FAULTY else network.outputs[0]
    return keras.Model(network.inputs, masked), arguments
recipe.build = build
del original
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "trainer.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("fault", "code"), [(True, 1), pytest.param(False, 0, marks=pytest.mark.slow)]
)
def test_the_exit_code_says_whether_every_check_passed(fault, code, script, data_dir, capsys):
    path = script(TRAINER.replace("FAULTY", str(fault)))
    flags = ["--strategy", "mirrored", "--dataset", "digits", "--data_dir", str(data_dir)]
    assert audit.main([path, *flags]) == code
    out, err = capsys.readouterr()
    assert err == ""
    head, *lines = out.splitlines()
    assert head == "recipe on digits: 8 steps of 64 images, replicas: 2, micro-batches: 1"
    wrong = [line for line in lines if line.endswith("NOT OK")]
    assert bool(wrong) == fault
    assert any(line.startswith(MASKS) for line in wrong) == fault


BAD = {
    "no script": ([], "python -m keras_elu.audit trainers/mnist.py"),
    "an absent script": (["trainers/none.py"], "trainers/none.py"),
    "no Python": (["{script}"], "cannot be run"),
    "no recipe": (["tests/conftest.py"], "imports 0 recipes"),
    "an unknown flag": (["trainers/mnist.py", "--bogus"], "--bogus"),
    "a wrong value": (["trainers/mnist.py", "--batch_size", "0"], "--batch_size"),
    "no number of micro-batches": (["trainers/mnist.py", "--micro_batches", "auto"], "auto"),
    "an uneven batch": (
        ["trainers/mnist.py", "--strategy", "mirrored", "--batch_size", "31"],
        "a multiple of 2",
    ),
}


@pytest.mark.parametrize(("arguments", "part"), BAD.values(), ids=BAD)
def test_a_wrong_command_ends_with_one_sentence_and_exit_code_2(
    arguments, part, script, data_dir, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    wrong = script("what is this?")
    flags = ["--dataset", "digits", "--data_dir", str(data_dir)] if arguments else []
    assert audit.main([x.format(script=wrong) for x in arguments] + flags) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (out, line[:7], line[-1]) == ("", "error: ", ".")
    assert part in line


def test_a_check_fails_if_the_difference_is_not_a_number():
    nothing = {"loss": (float("nan"), 1.0), "weights": (2.0, 3.0)}
    check = audit._to_rounding("x", nothing)
    assert (check.ok, check.finding) == (False, "largest difference nan of loss, rounding: 1.0e+00")


@keras.saving.register_keras_serializable("audit_test")
class Sensitive(keras.layers.Layer):
    """Multiplies rounding errors by up to 64: they exceed the tolerance on any processor."""

    def call(self, x):
        return x + keras.ops.stop_gradient(keras.ops.sin(x * 2**20) / 2**14)


def sensitive():
    return [Sensitive(), keras.layers.Activation("elu")]


def test_what_the_last_bits_of_the_weights_decide_is_rounding(monkeypatch):
    found = checks(layers=sensitive)
    assert failed(found) == [], audit.table(found)
    monkeypatch.setattr(audit, "_NUDGED", 0)
    assert AFTERWARDS + WHOLE in failed(checks(layers=sensitive))


LOSSES = {"from the first step on": 1e39, "some steps later": 1e4}


@pytest.mark.parametrize("rate", cases(LOSSES, "from the first step on"))
def test_a_loss_that_is_not_finite_is_reported_and_everything_else_is_compared(rate):
    """The same overflow on the replicas as on one is no difference between them."""

    def layers():
        scale = keras.layers.Rescaling(1e30)  # a squared norm of the logits overflows
        return [keras.layers.Dense(8), *([scale, scale] if rate > 1e38 else [])]

    found = checks(layers=layers, rate=min(rate, 1e38))
    first, *others = found
    assert first.compared == "losses"
    assert re.fullmatch(r"that of step \d is not finite: lower --learning_rate", first.finding)
    assert ("step 1 " in first.finding) == (rate > 1e38)
    assert failed(others) == [], audit.table(found)
    assert {METRICS, AFTERWARDS, RELOADED, WEIGHTS} <= {check.compared for check in others}


@pytest.mark.slow
def test_weights_that_are_finite_on_one_replica_only_are_found():
    def after(model, history):
        history["loss"][0] = float("nan")

    assert failed(checks(after=after)) == [METRICS]


@pytest.mark.parametrize("name", ["audit", "doctor"])
def test_help_describes_the_command_and_the_flags_of_the_trainer(name, capsys):
    main = {"audit": audit.main, "doctor": doctor.main}[name]
    for arguments, parts in (
        (["--help"], [f"python -m keras_elu.{name}", "trainers/mnist.py", "exit code"]),
        ([str(ROOT / "trainers/mnist.py"), "--help"], ["--learning_rate"]),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert not end.value.code
        shown = capsys.readouterr()
        assert shown.err == ""
        text = " ".join(shown.out.split())
        assert all(part in text for part in parts)


COMMANDS = {
    "mnist": ("--virtual_devices", "2"),
    "fast_cifar": ("--virtual_devices", "2"),
    "imagenet": ("--virtual_devices", "2", "--width", "0.015625"),
}


@pytest.fixture
def command(data_dir, tmp_path):
    """Runs Python in a process of its own in an empty folder, which remains empty."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(data_dir),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(*arguments):
        whole = [sys.executable, *map(str, arguments), "--dataset", "digits"]
        done = subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True)
        assert not list(folder.iterdir())
        return done

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags"), COMMANDS.items(), ids=COMMANDS)
def test_the_trainers_pass(name, flags, command):
    script = ROOT / "trainers" / f"{name}.py"
    done = command("-m", "keras_elu.audit", script, "--strategy", "mirrored", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith(f"{name} on digits: 8 steps of ")
    assert "replicas: 2" in head
    assert len(lines) >= 8
    assert all(line.endswith("  ok") for line in lines)


SILENT = """
from keras_elu.recipes import mnist
from keras_elu.steps import variables
variables.summed = lambda context, tensors: tensors
"""


@pytest.mark.slow
@pytest.mark.multiworker
def test_workers_that_do_not_communicate_are_found(command, script):
    launch = ["-m", "keras_elu.launch", "--workers", 2, "--restarts", 0]
    done = command(*launch, ROOT / "keras_elu/audit.py", script(SILENT))
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("[0] ") for line in lines)
    wrong = {line[4:].split("  ")[0] for line in lines if line.endswith("NOT OK")}
    assert {WEIGHTS, METRICS, AFTERWARDS} <= wrong, done.stdout + done.stderr
    assert MASKS not in wrong
