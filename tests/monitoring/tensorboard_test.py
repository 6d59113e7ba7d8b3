"""What TensorBoard receives of every step and of the layers, for any kind of execution."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_elu import diagnostics, layers, schedules, training
from keras_elu.monitoring import mistakes, pictures
from keras_elu.monitoring.tensorboard import TensorBoard

STEPS, EPOCHS, BATCH = 5, 2, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(STEPS * BATCH, 4, 4, 1)).astype("float32")
Y = RNG.integers(0, 3, STEPS * BATCH)
RATE = schedules.Linear(0.1, 0.01, 20)
PROBED = ("activation_mean", "saturated_share", "activations", "gradients")
ALPHA = schedules.Linear(0.5, 1.5, 20)


def tensors(folder):
    """Values by tag and step, as TensorBoard reads them."""
    read = event_accumulator.EventAccumulator(str(folder), {"tensors": 0}).Reload()
    found = {}
    for tag in read.Tags()["tensors"]:
        events = read.Tensors(tag)
        found[tag] = {event.step: tf.make_ndarray(event.tensor_proto) for event in events}
        assert len(found[tag]) == len(events), f"{tag} has a step twice"
    return found


def network(strategy="default", **compiling):
    keras.utils.set_random_seed(0)
    with training.strategy(strategy).scope():
        inputs = keras.Input((4, 4, 1))
        x = keras.layers.Dense(6, name="first")(keras.layers.Flatten()(inputs))
        x = layers.ELU(alpha=ALPHA, name="scheduled")(x)
        x = keras.layers.Dropout(0.5)(keras.layers.Dense(6)(x))
        x = layers.ParametricELU(name="learnt")(x)
        model = training.DistributedModel(inputs, keras.layers.Dense(3)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(RATE), loss, metrics=["accuracy"], **compiling)
    return model


def batches():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH, drop_remainder=True)


def trained(folder, every=3, **compiling):
    """The model, and the events of its training."""
    model = network(**compiling)
    board = TensorBoard(
        folder,
        STEPS,
        config={"learning_rate": 0.1, "data_dir": None, "activation": "elu"},
        hyperparameters={"learning_rate": 0.1, "activation": "elu"},
        batch=lambda: next(iter(batches())),
        histograms_every=every,
    )
    model.fit(
        batches().repeat(), steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0, callbacks=[board]
    )
    board.finish({"loss": 0.5, "accuracy": 0.75}, batches(), EPOCHS)
    return model, {name: tensors(folder / name) for name in ("", "train", "test")}


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.values, self.learnt = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]) * (batch + 1))
        self.learnt.append(float(self.model.get_layer("learnt").alpha.numpy().mean()))


@pytest.mark.parametrize(
    ("strategy", "compiling"),
    [
        ("default", {"steps_per_execution": 1, "jit_compile": False}),
        pytest.param(
            *("default", {"steps_per_execution": 3, "jit_compile": True}), marks=pytest.mark.slow
        ),
        ("mirrored", {"steps_per_execution": 4, "micro_batches": 2, "jit_compile": False}),
        pytest.param(
            *("mirrored", {"steps_per_execution": 4, "micro_batches": 2, "jit_compile": True}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_step_has_its_loss_learning_rate_and_alphas(strategy, compiling, tmp_path):
    steps = list(range(1, EPOCHS * STEPS + 1))
    plain = network(strategy, **compiling | {"steps_per_execution": 1})
    expected = Losses()
    plain.fit(
        batches().repeat(), steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0, callbacks=[expected]
    )
    model, found = trained(tmp_path, strategy=strategy, **compiling)
    for ours, own in zip(plain.weights, model.weights, strict=True):  # observing changes nothing
        np.testing.assert_allclose(ours.numpy(), own.numpy(), atol=1e-6)
    train = found["train"]
    numbers = ("batch_loss", "learning_rate", "alpha/scheduled", "alpha/learnt")
    assert all(list(train[tag]) == steps for tag in numbers)
    sums = np.reshape(
        expected.values, (EPOCHS, STEPS)
    )  # of the losses since the start of the epoch
    losses = np.diff(sums, prepend=0.0).ravel()
    np.testing.assert_allclose(list(train["batch_loss"].values()), losses, rtol=1e-4)
    rates, alphas = ([float(of(step - 1)) for step in steps] for of in (RATE, ALPHA))
    np.testing.assert_allclose(list(train["learning_rate"].values()), rates, rtol=2e-7)
    np.testing.assert_allclose(list(train["alpha/scheduled"].values()), alphas, rtol=2e-7)
    np.testing.assert_allclose(list(train["alpha/learnt"].values()), expected.learnt, rtol=1e-5)
    due = {1: [3, 6, 9], 3: [3, 8, 10], 4: [4, 9]}[compiling["steps_per_execution"]]
    probed = [tag for tag in train if tag.partition("/")[0] in PROBED]
    assert len(probed) == 3 * 2 + len(model.trainable_variables)
    assert all(list(train[tag]) == due for tag in probed)


def test_the_run_has_its_configuration_pictures_and_hyper_parameters(tmp_path):
    _, found = trained(tmp_path)
    run = found[""]
    assert "| learning_rate | 0.1 |" in run["config"][0].item().decode()
    last = EPOCHS * STEPS
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info"} <= found["test"].keys()
    assert found["test"]["test_accuracy"] == {last: np.float32(0.75)}
    for tag, step in (("batch", 0), ("confusion_matrix", last), ("worst_mistakes", last)):
        width, height, png = run[tag][step]
        assert pictures.size(png) == (int(width), int(height))


def test_a_probe_observes_the_layers(tmp_path):
    model, found = trained(tmp_path, every=EPOCHS * STEPS)
    train, last = found["train"], EPOCHS * STEPS
    kernel = model.get_layer("first").kernel.numpy()
    bias = model.get_layer("first").bias.numpy()
    x = X[:BATCH].reshape(BATCH, -1) @ kernel + bias
    alpha = float(ALPHA(last))  # at the next step
    y = np.where(x > 0, x, alpha * np.expm1(x))
    np.testing.assert_allclose(train["activation_mean/scheduled"][last], y.mean(), rtol=1e-4)
    shares = train["saturated_share/scheduled"][last], (alpha * np.exp(x) < 0.05).mean()
    np.testing.assert_allclose(*shares)
    left, right, counts = train["activations/scheduled"][last].T
    assert (left[0], right[-1]) == (pytest.approx(y.min()), pytest.approx(y.max()))
    edges = np.append(left, right[-1])
    np.testing.assert_allclose(counts, np.histogram(y, edges)[0], atol=1)
    assert train["gradients/first/kernel"][last][:, 2].sum() == kernel.size


class Counted(keras.layers.Layer):
    calls = 0

    def call(self, x):
        type(self).calls += 1
        return x


def test_nothing_is_retraced(tmp_path):
    with training.strategy("default").scope():
        inputs = keras.Input((4, 4, 1))
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(Counted()(inputs)))
        model = training.DistributedModel(inputs, outputs)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    board = TensorBoard(tmp_path, STEPS, batch=lambda: next(iter(batches())), histograms_every=2)
    calls = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: calls.append(Counted.calls)
    )
    model.fit(
        batches().repeat(), steps_per_epoch=STEPS, epochs=2, verbose=0, callbacks=[board, count]
    )
    assert len(calls) == 2 * STEPS
    assert len(set(calls)) == 1


def test_the_worst_mistakes_and_the_confusion_matrix_are_those_of_the_test_set():
    inputs = keras.Input((1, 3, 1))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    logits = np.array([[9, 0, 0], [0, 5, 0], [0, 8, 0], [1, 0, 0], [0, 0, 2.0]], "float32")
    labels = np.array([0, 0, 2, 1, 2])
    rows = tf.data.Dataset.from_tensor_slices((logits[:, None, :, None], labels)).batch(2)
    assert mistakes.classifies(model, rows)
    found = mistakes.find(model, rows)
    assert found.counts.tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert found.captions == ["2 as 1, 100%", "0 as 1, 99%", "1 as 0, 58%"]
    np.testing.assert_array_equal(found.images[:, 0, :, 0], logits[[2, 1, 3]])
    targets = rows.map(lambda images, labels: (images, images))
    assert not mistakes.classifies(model, targets)


ACTIVATIONS = {
    "elu": layers.ELU,
    "shifted_relu": layers.ShiftedReLU,
    "relu": keras.layers.ReLU,
    "leaky_relu": functools.partial(keras.layers.LeakyReLU, 0.1),
    "gelu": functools.partial(keras.layers.Activation, "gelu"),
}


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("make", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_saturated_share_is_that_of_small_slopes(make, precision):
    x = np.linspace(-12, 12, 4801, dtype="float32")[:, None]
    keras.config.set_dtype_policy(precision)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, make(name="f")(inputs))
    with tf.GradientTape() as tape:
        at = tf.constant(x)
        tape.watch(at)
        y = make(dtype="float32")(at)
    slope = np.abs(tape.gradient(y, at).numpy())
    found = diagnostics.activity(model, x)["f"]
    assert found.saturated == pytest.approx((slope < 0.05).mean(), abs=2e-3)
    assert found.mean == pytest.approx(y.numpy().mean(), rel=1e-2)
