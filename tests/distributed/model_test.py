"""The same mathematics under every strategy; stock Keras on one replica is the oracle."""

import contextlib
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers
from right_or_refused import slow_but

from keras_elu import schedules, training
from keras_elu.layers import ELU

ROOT = pathlib.Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(35, 8)).astype("float32")  # of a batch of 8, the last has 3 rows
Y = RANDOM.integers(0, 3, 35)
W = RANDOM.uniform(0, 2, 35).astype("float32")
WHOLE = 32  # rows in whole batches
SLOW = pytest.mark.slow
HARD = {"jit_compile": True, "micro_batches": 2, "steps_per_execution": 3}
PIECES = pytest.mark.parametrize(
    "compiling",
    [
        pytest.param(HARD | {"jit_compile": False}, id="pieces"),
        pytest.param(HARD, id="hard", marks=SLOW),
    ],
)


def one_replica():
    return training.strategy("default")


def two_replicas():
    strategy = training.strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


def crossentropy(reduction="sum_over_batch_size"):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


def dense(x):
    return layers.Dense(3)(layers.Dense(16, activation="tanh", kernel_regularizer="l2")(x))


def normalised(x):
    return layers.Dense(3)(layers.BatchNormalization(momentum=0.9)(layers.Dense(16)(x)))


def dropped(x):
    return layers.Dense(3)(layers.Dropout(0.5, seed=3)(layers.Dense(16)(x)))


def make(strategy, model=training.DistributedModel, network=dense, inputs=None, **compiling):
    """A compiled model; equal arguments give equal weights under every strategy."""
    keras.utils.set_random_seed(1)
    optimizer = compiling.pop("optimizer", lambda: optimizers.SGD(0.1, momentum=0.9))
    loss = compiling.pop("loss", crossentropy)
    metrics = compiling.pop("metrics", list)
    compiling.setdefault("jit_compile", False)
    with strategy.scope():
        inputs = keras.Input((8,)) if inputs is None else inputs()
        made = model(inputs, network(inputs))
        made.compile(optimizer(), loss(), metrics=metrics(), **compiling)
    return made


def trained(strategy, model=training.DistributedModel, data=(X, Y), fitting=None, **making):
    """Weights, last logs and evaluation after two epochs in batches of 8."""
    made = make(strategy, model, **making)
    rows = tf.data.Dataset.from_tensor_slices(data).batch(8)
    logs = made.fit(rows, epochs=2, verbose=0, **(fitting or {})).history
    return {
        "weights": [v.numpy() for v in [*made.variables, *made.optimizer.variables]],
        "logs": {name: values[-1] for name, values in logs.items()},
        "evaluation": made.evaluate(rows, verbose=0, return_dict=True),
    }


def assert_same(a, b, tolerance=2e-6):
    for one, other in zip(a["weights"], b["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for part in ("logs", "evaluation"):
        assert a[part] == pytest.approx(b[part], rel=1e-5, abs=tolerance)


def differ(a, b, by=1e-3):
    pairs = zip(a["weights"], b["weights"], strict=True)
    return max(np.abs(one - other).max() for one, other in pairs) > by


@SLOW
@pytest.mark.multiworker
def test_all_combinations_of_the_table_hold(tmp_path):
    """3 strategies x 3 precisions x XLA x micro-batches x steps an execution: F1, F2, F3, F7."""
    script = ROOT / "benchmarks" / "combinations.py"
    command = [sys.executable, script, "--results", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "72 of 72 hold" in done.stdout


OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "nadam": lambda: optimizers.Nadam(0.01),
    "muon": lambda: optimizers.Muon(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.9),
    "moving average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
    "moving average written back": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "schedule": lambda: optimizers.SGD(schedules.Cosine(0.1, 10, warmup_steps=3), momentum=0.9),
}
QUICK = (
    *("adam", "clipnorm", "global_clipnorm", "schedule"),
    "moving average written back",
)


@pytest.mark.parametrize("name", slow_but(OPTIMIZERS, *QUICK))
def test_every_optimizer_updates_as_on_one_replica(name):
    expected = trained(one_replica(), keras.Model, optimizer=OPTIMIZERS[name])
    compiling = HARD | {"jit_compile": name in ("adamw", "global_clipnorm")}
    assert_same(trained(two_replicas(), optimizer=OPTIMIZERS[name], **compiling), expected, 1e-5)


@SLOW
@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_stock_keras_clips_before_it_sums(name):
    """F10, with whole batches, as uneven ones fail for another reason."""
    setting = {"optimizer": OPTIMIZERS[name], "data": (X[:WHOLE], Y[:WHOLE])}
    expected = trained(one_replica(), keras.Model, **setting)
    assert differ(trained(two_replicas(), keras.Model, **setting), expected)


def piece_mean(y_true, y_pred):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y_true, y_pred, True))


class Penalised:
    """Adds to the loss in its own way."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + keras.ops.mean(y_pred**2)


class PenalisedModel(Penalised, keras.Model):
    pass


class PenalisedDistributedModel(Penalised, training.DistributedModel):
    pass


def two_outputs(x):
    hidden = layers.Dense(16, activation="tanh")(x)
    return {"a": layers.Dense(3, name="a")(hidden), "b": layers.Dense(1, name="b")(hidden)}


def frozen(x):
    return layers.Dense(3)(layers.Dense(16, activation="tanh", trainable=False)(x))


WEIGHTED = {"data": (X, Y, W), "weighted_metrics": ["accuracy"]}
FEATURES = {
    "sums": {"loss": lambda: crossentropy("sum"), "optimizer": lambda: optimizers.SGD(0.01)},
    "sample weights": WEIGHTED,
    "means over sample weights": WEIGHTED
    | {"loss": lambda: crossentropy("mean_with_sample_weight")},
    "class weights": {"fitting": {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}},
    "a loss that is a mean already": {
        "loss": lambda: piece_mean,
        "network": lambda x: layers.Softmax()(dense(x)),
    },
    "activity regularisers": {
        "network": lambda x: layers.Dense(3)(layers.Dense(4, activity_regularizer="l2")(x))
    },
    "frozen layers": {"network": frozen},
    "metrics": {
        "metrics": lambda: ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
    },
}


def assert_counted_once(name, **compiling):
    """F6: the last batch is uneven."""
    expected = trained(one_replica(), keras.Model, **FEATURES[name])
    assert_same(trained(two_replicas(), **FEATURES[name], **compiling), expected)


RARE = ("means over sample weights", "frozen layers")


@pytest.mark.parametrize("name", slow_but(FEATURES, *(FEATURES.keys() - RARE)))
def test_every_feature_counts_each_example_once(name):
    assert_counted_once(name)


@pytest.mark.parametrize("name", slow_but(FEATURES, "sample weights"))
def test_every_feature_counts_each_example_once_in_pieces(name):
    assert_counted_once(name, **HARD)


@SLOW
def test_stock_keras_weighs_the_last_batch_by_replicas():
    expected = trained(one_replica(), keras.Model)
    assert differ(trained(two_replicas(), keras.Model), expected)


@PIECES
def test_a_loss_of_the_models_own_is_taken_as_a_mean(compiling):
    expected = trained(one_replica(), PenalisedModel)
    assert_same(trained(two_replicas(), PenalisedDistributedModel, **compiling), expected)


TWO = {
    "network": two_outputs,
    "loss": lambda: {"a": crossentropy(), "b": "mse"},
    "metrics": lambda: {"a": ["accuracy"], "b": ["mae"]},
    "data": (X, {"a": Y, "b": W[:, None]}),
}


@PIECES
def test_two_outputs(compiling):
    """In the losses of single outputs, stock Keras ignores the sizes of batches."""
    expected = trained(one_replica(), keras.Model, **TWO)
    got = trained(two_replicas(), **TWO, **compiling)
    wrong = {"a_loss", "b_loss"}
    for part in ("logs", "evaluation"):
        for name in expected[part].keys() - wrong:
            assert got[part][name] == pytest.approx(expected[part][name], rel=1e-5), name
    model = make(two_replicas(), **{k: v for k, v in TWO.items() if k != "data"})
    whole = model.evaluate(*TWO["data"], batch_size=35, verbose=0, return_dict=True)
    parts = model.evaluate(*TWO["data"], batch_size=8, verbose=0, return_dict=True)
    assert parts == pytest.approx(whole, rel=1e-5)


@PIECES
def test_several_inputs(compiling):
    def network(inputs):
        return dense(layers.Concatenate()([inputs["p"], inputs["q"]]))

    setting = {
        "inputs": lambda: {"p": keras.Input((3,), name="p"), "q": keras.Input((5,), name="q")},
        "network": network,
        "data": ({"p": X[:, :3], "q": X[:, 3:]}, Y),
    }
    expected = trained(one_replica(), keras.Model, **setting)
    assert_same(trained(two_replicas(), **setting, **compiling), expected)


# Batch normalisation and dropout: every piece of a batch has its own statistics and its own mask.
# Two replicas are two micro-batches on one.


@pytest.mark.parametrize(
    "compiling", [pytest.param({}, id="plain"), pytest.param(HARD, id="hard", marks=SLOW)]
)
def test_a_mask_of_the_output_divides_the_loss_by_the_valid_entries(compiling):
    x = np.ones((35, 4, 8), "float32") * X[:, None]
    x[10:, 1:] = 0  # void, most of them in the second half of a batch
    setting = {
        "inputs": lambda: keras.Input((4, 8)),
        "network": lambda x: layers.Dense(3)(layers.Masking()(x)),
        "data": (x, np.repeat(Y[:, None], 4, 1)),
    }
    expected = trained(one_replica(), keras.Model, **setting)
    assert_same(trained(two_replicas(), **setting, **compiling), expected)


@pytest.mark.parametrize("rows", [8, 7, 1])
@pytest.mark.parametrize("strategy", [one_replica, two_replicas])
def test_a_batch_given_alone_is_a_step_of_the_whole_batch(strategy, rows):
    made, plain = make(strategy()), make(one_replica(), keras.Model)
    for _ in range(2):
        expected = plain.train_on_batch(X[:rows], Y[:rows])
        assert made.train_on_batch(X[:rows], Y[:rows]) == pytest.approx(expected, rel=1e-5)
    assert made.test_on_batch(X, Y) == pytest.approx(plain.test_on_batch(X, Y), rel=1e-5)
    outputs = made.predict_on_batch(X[:rows])
    np.testing.assert_allclose(outputs, plain.predict_on_batch(X[:rows]), 1e-5, 1e-6)


WHOLE_BATCHES = {"data": (X[:WHOLE], Y[:WHOLE])}


@pytest.fixture
def float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)


@pytest.mark.usefixtures("float64")  # batch normalisation over two rows multiplies rounding errors
@pytest.mark.parametrize(
    ("network", "jit_compile"),
    [
        (normalised, True),
        (dropped, False),
        pytest.param(normalised, False, marks=SLOW),
        pytest.param(dropped, True, marks=SLOW),
    ],
)
def test_replicas_are_micro_batches(network, jit_compile):
    setting = WHOLE_BATCHES | {"network": network, "jit_compile": jit_compile}
    expected = trained(one_replica(), micro_batches=4, **setting)
    got = trained(two_replicas(), micro_batches=2, **setting)
    assert_same(got, expected, 1e-12)
    assert {weights.dtype.name for weights in got["weights"]} <= {"float64", "int64"}


@pytest.mark.parametrize("network", [dense, dropped])
def test_one_replica_is_stock_keras_to_the_bit(network):
    expected = trained(one_replica(), keras.Model, network=network)
    got = trained(one_replica(), network=network)
    for one, other in zip(got["weights"], expected["weights"], strict=True):
        np.testing.assert_array_equal(one, other)


def moving_mean(model):
    """The moving mean, from 0, after a batch whose first half is 0 and second half 10."""
    strategy = two_replicas()
    network = layers.BatchNormalization(momentum=0.0)
    made = make(strategy, model, network=network, loss=lambda: "mse")
    x = np.repeat([0.0, 10.0], 4)[:, None] * np.ones((1, 8))
    made.fit(x, x, batch_size=8, shuffle=False, verbose=0)
    return made.layers[-1].moving_mean


def test_moving_statistics_are_averaged_over_the_replicas():
    """F4: stock Keras keeps the statistics of the first replica."""
    means = moving_mean(training.DistributedModel)
    for mine in two_replicas().experimental_local_results(means.value):
        np.testing.assert_allclose(mine.numpy(), 5.0)
    np.testing.assert_allclose(moving_mean(keras.Model).numpy(), 0.0)


def mean_of_batch(y_true, y_pred):
    return keras.ops.mean((keras.ops.one_hot(y_true, 3) - y_pred) ** 2)


class OwnMean(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return mean_of_batch(y_true, y_pred)


@pytest.mark.parametrize(
    "loss",
    [
        crossentropy,
        lambda: mean_of_batch,
        OwnMean,
        lambda: keras.losses.SparseCategoricalCrossentropy(True, reduction="sum"),
    ],
    ids=["rows", "one number", "a __call__ of its own", "sum"],
)
def test_synchronised_batch_normalisation_is_that_of_the_whole_batch(loss):
    def synchronised(x):
        return layers.Dense(3)(
            layers.BatchNormalization(momentum=0.9, synchronized=True)(layers.Dense(16)(x))
        )

    setting = WHOLE_BATCHES | {"loss": loss, "optimizer": lambda: optimizers.SGD(0.01)}
    expected = trained(one_replica(), keras.Model, network=normalised, **setting)
    assert_same(trained(two_replicas(), network=synchronised, **setting), expected, 1e-5)


class Masks(keras.layers.Layer):
    """A dropout whose masks are summed in a weight, for each row of the batch."""

    def __init__(self, rows):
        super().__init__()
        self.dropout = layers.Dropout(0.5, seed=7)
        self.rows = rows

    def build(self, shape):
        self.seen = self.add_weight(shape=(self.rows, shape[-1]), initializer="ones")

    def call(self, x, training=None):
        # The gradient of the mean of the output towards `seen` is the mask.
        seen = keras.ops.ones_like(x) * self.seen[: keras.ops.shape(x)[0]]
        return self.dropout(seen, training=training)


def masks(model, strategy, **compiling):
    """The contribution of each replica's mask to the weight, with a learning rate of 1."""
    made = make(
        strategy,
        model,
        network=lambda x: Masks(64)(x),
        loss=lambda: lambda y, p: keras.ops.mean(p, -1),
        optimizer=lambda: optimizers.SGD(1.0),
        **compiling,
    )
    ones = np.ones((64 * strategy.num_replicas_in_sync, 8), "float32")
    made.fit(ones, ones, batch_size=len(ones), verbose=0, shuffle=False)
    return 1 - made.layers[-1].seen.numpy()


def test_every_replica_draws_its_own_mask_reproducibly():
    """F5: the masks of two replicas agree in half of the places, not in all."""
    own = masks(training.DistributedModel, two_replicas())
    same = masks(training.DistributedModel, two_replicas(), jit_compile=False)
    stock = masks(keras.Model, two_replicas())
    np.testing.assert_array_equal(own, same)
    counts = [len(np.unique(np.round(m / m.max(), 3))) for m in (own, stock)]
    assert counts == [3, 2]  # dropped by none, one or both; by none or both
    half = (np.round(own / own.max(), 3) == 0.5).mean()
    assert 0.4 < half < 0.6


class Wide(keras.layers.Layer):
    """Fails without rows, as a convolution does on some devices."""

    def call(self, x):
        rows = keras.ops.shape(x)[0]
        with tf.control_dependencies([tf.debugging.assert_positive(rows)]):
            return tf.identity(x)

    def compute_output_shape(self, shape):
        return shape


def test_no_replica_runs_an_empty_batch():
    """F6: one of two replicas gets no row of a last batch of one row."""
    setting = {"data": (X[:17], Y[:17]), "network": lambda x: dense(Wide()(x))}
    expected = trained(one_replica(), keras.Model, **setting)
    assert_same(trained(two_replicas(), **setting), expected)
    assert_same(trained(two_replicas(), **setting, micro_batches=4), expected)
    with pytest.raises(tf.errors.InvalidArgumentError):
        trained(two_replicas(), keras.Model, **setting)


def test_the_row_that_stands_in_leaves_no_trace_in_the_statistics():
    setting = {"data": (X[:9], Y[:9]), "network": normalised}
    expected = trained(one_replica(), micro_batches=2, **setting)
    assert_same(trained(two_replicas(), **setting), expected, 1e-5)


def test_predictions_come_in_order_once_each():
    made = make(two_replicas())
    plain = make(one_replica(), keras.Model)
    for rows in (1, 2, 17, 35):
        np.testing.assert_allclose(
            made.predict(X[:rows], batch_size=8, verbose=0),
            plain.predict(X[:rows], verbose=0),
            1e-5,
        )


def test_the_strategy_is_one_object():
    """F8: a second strategy in a process aborts the collectives."""
    assert training.strategy("mirrored") is training.strategy("mirrored")


def counted_batches(drawn):
    def rows():
        for number in itertools.count():
            drawn.append(number)
            yield X[:8], Y[:8]

    spec = (tf.TensorSpec((8, 8)), tf.TensorSpec((8,), tf.int64))
    return tf.data.Dataset.from_generator(rows, output_signature=spec)


def steps_done(model, drawn, steps_per_execution):
    made = make(two_replicas(), model, steps_per_execution=steps_per_execution)
    made.fit(counted_batches(drawn), steps_per_epoch=5, epochs=2, verbose=0, shuffle=False)
    return int(made.optimizer.iterations.numpy())


def test_an_execution_is_cut_short_at_the_end_of_an_epoch():
    for steps_per_execution in (1, 2, 3, 8):
        assert steps_done(training.DistributedModel, [], steps_per_execution) == 10


def starts_of_the_data(model):
    starts = []

    def rows():
        starts.append(True)
        yield from [(X[:8], Y[:8])] * 2

    spec = (tf.TensorSpec((8, 8)), tf.TensorSpec((8,), tf.int64))
    data = tf.data.Dataset.from_generator(rows, output_signature=spec)
    make(two_replicas(), model).fit(data, steps_per_epoch=2, verbose=0, shuffle=False)
    return len(starts)


def test_no_hidden_batch_is_read():
    """F9: stock Keras reads and discards a batch to build the model."""
    assert starts_of_the_data(training.DistributedModel) == 1
    assert starts_of_the_data(keras.Model) == 2


class Traced(keras.layers.Layer):
    traces = 0

    def call(self, x):
        Traced.traces += 1
        return x * 1

    def compute_output_shape(self, shape):
        return shape


def test_nothing_is_traced_again():
    made = make(two_replicas(), network=lambda x: dense(Traced()(x)), steps_per_execution=3)
    made.fit(X[:8], Y[:8], batch_size=8, validation_data=(X[:8], Y[:8]), verbose=0)
    before = Traced.traces  # of one execution of each kind
    made.fit(X, Y, batch_size=8, epochs=3, validation_data=(X, Y), verbose=0)
    assert Traced.traces == before > 0


def test_what_is_not_built_is_built_outside_of_the_trace():
    """F11: a new model starts with a single step; stock Keras builds only in its loops."""
    made = make(two_replicas(), metrics=lambda: ["accuracy"], jit_compile=True)
    assert not made.optimizer.built
    logs = made.train_on_batch(X[:8], Y[:8], return_dict=True)
    plain = make(one_replica(), keras.Model, metrics=lambda: ["accuracy"])
    assert logs == pytest.approx(plain.train_on_batch(X[:8], Y[:8], return_dict=True), rel=1e-5)
    assert made.test_on_batch(X, Y) == pytest.approx(plain.test_on_batch(X, Y), rel=1e-5)
    stock = make(two_replicas(), keras.Model, metrics=lambda: ["accuracy"])
    step = tf.function(lambda: two_replicas().run(stock.train_step, args=((X[:8], Y[:8]),)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="placeholder"):
        step()


def test_it_runs_eagerly_too():
    expected = trained(one_replica(), keras.Model)
    for strategy in (one_replica(), two_replicas()):
        assert_same(trained(strategy, run_eagerly=True), expected)


def test_a_scheduled_alpha_follows_the_steps_not_the_pieces():
    schedule = schedules.Linear(1.0, 0.5, 10)
    made = make(two_replicas(), network=lambda x: dense(ELU(schedule)(x)), **HARD)
    made.fit(X[:WHOLE], Y[:WHOLE], batch_size=8, verbose=0)
    (elu,) = [layer for layer in made.layers if isinstance(layer, ELU)]
    assert int(elu.step.numpy()) == 4
    assert float(elu.alpha.numpy()) == pytest.approx(float(schedule(3)))


@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize("strategy", [one_replica, two_replicas])
def test_a_loss_that_is_not_finite_stops_with_its_step(strategy, steps_per_execution):
    x = X[:WHOLE].copy()
    x[21] = np.nan  # in the third batch
    made = make(strategy(), steps_per_execution=steps_per_execution)
    made.fit(X[:WHOLE], Y[:WHOLE], batch_size=8, verbose=0)
    with pytest.raises(training.NonFiniteLoss, match="step 7 is not finite") as caught:
        made.fit(x, Y[:WHOLE], batch_size=8, verbose=0, shuffle=False)
    assert caught.value.step == 7


LOAD = """
import sys
sys.modules["keras_elu"] = None
import keras
model = keras.saving.load_model(sys.argv[1])
print(type(model).__name__, type(model.optimizer).__name__, len(model.optimizer.variables))
"""


def test_it_is_saved_as_a_plain_model(tmp_path):
    made = make(two_replicas(), micro_batches=2)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss")
    made.fit(X, Y, verbose=0, callbacks=[best])
    assert isinstance(made, training.DistributedModel)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "best.keras"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["Functional", "SGD", "6"], done.stderr
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(made.evaluate(X, Y, verbose=0))


def test_the_callbacks_of_keras_work():
    def history(strategy, model, **compiling):
        callbacks = [
            keras.callbacks.EarlyStopping(patience=2, min_delta=0.3, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(patience=0, factor=0.5, min_delta=0.3),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        ]
        data = {"batch_size": 8, "validation_data": (X, Y), "epochs": 6, "verbose": 0}
        made = make(strategy, model, **compiling)
        return made.fit(X, Y, shuffle=False, callbacks=callbacks, **data).history

    got = history(two_replicas(), training.DistributedModel, steps_per_execution=2)
    expected = history(one_replica(), keras.Model)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name] == pytest.approx(values, rel=1e-5), name


class Memory(keras.layers.Layer):
    """Needs 70 TB for 8 rows, and almost nothing for 4."""

    def call(self, x):
        size = tf.cast(tf.minimum(tf.shape(x)[0] // 4, 2), tf.int64) ** 44
        return x + tf.reduce_sum(tf.fill([size], x[0, 0])) * 0

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("strategy", slow_but([one_replica, two_replicas], two_replicas))
def test_micro_batches_are_halved_until_the_step_fits(strategy, capsys):
    replicas = strategy().num_replicas_in_sync
    made = make(strategy(), network=lambda x: dense(Memory()(x)), micro_batches="auto")
    rows = tf.data.Dataset.from_tensor_slices((X[:32], Y[:32])).batch(16, drop_remainder=True)
    before = made.get_weights()
    logs = made.fit(rows, verbose=0).history
    parts = 4 // replicas
    assert (
        f"micro-batches: {parts}, of 4 of a replica's {16 // replicas}" in capsys.readouterr().out
    )
    plain = make(one_replica(), keras.Model)
    plain.set_weights(before)
    expected = plain.fit(rows, verbose=0).history
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def fitted_elsewhere():
    made = make(one_replica())
    with two_replicas().scope():
        made.fit(X, Y, verbose=0)


def mirrored(**compiling):
    return make(two_replicas(), **compiling)


def layers_outside():
    inputs = keras.Input((8,))
    outputs = dense(inputs)
    with two_replicas().scope():
        training.DistributedModel(inputs, outputs).compile("sgd", crossentropy())


def optimizer_outside():
    optimizer = optimizers.SGD(0.1)
    make(two_replicas(), optimizer=lambda: optimizer)


def distributed_data():
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    mirrored().fit(two_replicas().experimental_distribute_dataset(rows))


def synchronised_xla(**compiling):
    network = lambda x: layers.Dense(3)(layers.BatchNormalization(synchronized=True)(x))  # noqa: E731
    mirrored(network=network, **compiling)


def second_strategy():
    mirrored()
    make(tf.distribute.MirroredStrategy(two_replicas().extended.worker_devices))


MISUSES = {
    "a second strategy": (second_strategy, "already has another strategy"),
    "layers outside": (layers_outside, "was created outside the scope"),
    "fitted elsewhere": (fitted_elsewhere, "created outside the scope of the strategy in use"),
    "optimizer outside": (optimizer_outside, "of the optimizer was created outside the scope"),
    "micro_batches 0": (lambda: mirrored(micro_batches=0), "not 0"),
    "micro_batches 1.5": (lambda: mirrored(micro_batches=1.5), "not 1.5"),
    "accumulation": (
        lambda: mirrored(optimizer=lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)),
        "pass micro_batches=2 to compile",
    ),
    "synchronised, XLA": (lambda: synchronised_xla(jit_compile=True), "synchronized=False"),
    "synchronised, parts": (lambda: synchronised_xla(micro_batches=2), "synchronized=False"),
    "distributed data": (distributed_data, "is already distributed"),
    "auto without a size": (
        lambda: mirrored(micro_batches="auto").fit(X, Y, batch_size=8, verbose=0),
        "drop_remainder=True",
    ),
    "no such strategy": (lambda: training.strategy("mirror"), "not 'mirror'"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_explained_in_a_sentence(name):
    call, message = MISUSES[name]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@SLOW
@pytest.mark.parametrize(
    "compiling",
    [
        {"jit_compile": True},
        {"steps_per_execution": 2},
        {"optimizer": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)},
    ],
    ids=["F1", "F2", "F3"],
)
def test_stock_keras_fails_on_replicas(compiling):
    with pytest.raises((tf.errors.InvalidArgumentError, RuntimeError, ValueError)):
        trained(two_replicas(), keras.Model, **WHOLE_BATCHES, **compiling)


TWO_WORKERS = """
import keras, numpy as np, tensorflow as tf
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
data = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1)))).repeat()
model.fit(data, steps_per_epoch=2, verbose=0)
"""


@SLOW
@pytest.mark.multiworker
def test_stock_keras_does_not_train_on_several_workers():
    """F7."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(2)]
        workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    variables = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_WORKERS],
            env=os.environ | {"TF_CONFIG": variable, "CUDA_VISIBLE_DEVICES": "-1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for variable in variables
    ]
    for process in processes:
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "PerReplica" in messages


TWO_MODELS = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
if sys.argv[1] == "stock":
    cls, strategy = keras.Model, lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    from keras_elu import training
    cls, strategy = training.DistributedModel, lambda: training.strategy("mirrored")
for units in (3, 5):
    with strategy().scope():
        inputs = keras.Input((2,))
        model = cls(inputs, keras.layers.Dense(units)(inputs))
        model.compile("sgd", "mse")
    model.fit(np.ones((8, 2)), np.ones((8, units)), batch_size=4, verbose=0)
    print("trained", units, flush=True)
"""


@SLOW
@pytest.mark.parametrize(("whose", "trained"), [("stock", [3]), ("ours", [3, 5])])
def test_a_second_model_trains_on_the_replicas_of_the_first(whose, trained):
    """F8: with two strategies, which stock Keras permits, it does not."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_MODELS, whose],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [f"trained {units}" for units in trained]
    assert ("Shape mismatch in the collective" in done.stderr) == (whose == "stock")


@SLOW
def test_stock_keras_overruns_an_epoch():
    """The last execution is a full one."""
    made = make(one_replica(), keras.Model, steps_per_execution=2)
    made.fit(counted_batches([]), steps_per_epoch=5, epochs=2, verbose=0, shuffle=False)
    assert int(made.optimizer.iterations) == 12


def compiled_layers(network, **compiling):
    """Returns whether "auto" chooses XLA for a network on this machine."""
    return make(one_replica(), network=network, jit_compile="auto", **compiling).jit_compile


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="of CPUs")
def test_auto_compiles_on_a_cpu_what_gains_from_it():
    assert compiled_layers(dense)
    assert not compiled_layers(dense, run_eagerly=True)
    assert not compiled_layers(lambda x: dense(layers.Flatten()(layers.Conv1D(2, 3)(x[..., None]))))
    assert compiled_layers(layers.Dense(2**16))
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert compiled_layers(dense)
    assert not compiled_layers(layers.Dense(2**16))
    keras.config.set_dtype_policy("mixed_float16")
    assert not compiled_layers(dense)
