"""Assignments, losses and metrics of layers: as in stock Keras on one replica, or refused."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops, optimizers

from keras_elu import training

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(22, 8)).astype("float32")  # in batches of 8, the last with 6 rows
Y = RANDOM.normal(size=(22, 3)).astype("float32")
PLACES = {
    "one replica": ("default", {}),
    "two replicas": ("mirrored", {}),
    "three micro-batches": ("default", {"micro_batches": 3}),
    "XLA on two": ("mirrored", {"micro_batches": 2, "jit_compile": True}),
}


class Keeps(layers.Layer):
    """Assigns a function of its variable and its inputs in every call."""

    def __init__(self, change, dtype="float32"):
        super().__init__()
        self.change, self.of = change, dtype

    def build(self, shape):
        self.kept = self.add_weight(
            shape=(), initializer="zeros", dtype=self.of, trainable=False, name="kept"
        )

    def call(self, x):
        self.kept.assign(self.change(self.kept, x))
        return x


class Hidden(Keeps):
    """Keeps its variable where Keras does not track it."""

    def build(self, shape):
        object.__setattr__(self, "hidden", {"kept": keras.Variable(0.0, trainable=False)})

    def call(self, x):
        kept = self.hidden["kept"]
        kept.assign(self.change(kept, x))
        return x


class Decays(layers.Dense):
    """Assigns its trained weights."""

    def call(self, x):
        self.kernel.assign(self.kernel * 0.9)
        return super().call(x)


class Adds(layers.Layer):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def call(self, x):
        self.add_loss(self.loss(x))
        return x


def mixed(x):
    return ops.mean(ops.logsumexp(ops.matmul(x, ops.transpose(x)), 1))


def rows(x):
    return ops.cast(ops.shape(x)[0], "int32")


RIGHT = {
    "a sum over the rows": lambda: Keeps(lambda v, x: v + ops.sum(x)),
    "a moving average": lambda: Keeps(lambda v, x: 0.9 * v + 0.1 * ops.mean(x)),
    "a counter of steps": lambda: Keeps(lambda v, x: v + 1),
    "a counter of steps in integers": lambda: Keeps(lambda v, x: v + 1, "int32"),
    "a counter of rows in integers": lambda: Keeps(lambda v, x: v + rows(x), "int32"),
    "an untracked variable": lambda: Hidden(lambda v, x: v + ops.sum(x)),
    "trained weights": lambda: Decays(4),
    "Keras's power iteration": lambda: layers.SpectralNormalization(layers.Dense(4)),
    "an added mean": lambda: Adds(lambda x: ops.mean(x**2)),
    "an added sum": lambda: Adds(lambda x: 0.01 * ops.sum(x**2)),
    "an added value by row": lambda: Adds(lambda x: 0.01 * x[:, 0] ** 2),
}
REFUSED = {
    "a maximum": (lambda: Keeps(lambda v, x: ops.maximum(v, ops.max(x))), "mixes the rows"),
    "an added loss that mixes rows": (lambda: Adds(mixed), "adds a loss"),
}


def results(create, model, strategy="default", **compiling):
    """Returns the history, and all variables after training, evaluation and prediction."""
    keras.utils.set_random_seed(1)
    compiling.setdefault("jit_compile", False)
    with training.strategy(strategy).scope():
        inputs, tried = keras.Input((8,)), [layer() for layer in create]
        x = layers.Dense(8)(inputs)
        branches = [layer(x) for layer in tried]
        made = model(inputs, layers.Dense(3)(layers.Concatenate()([x, *branches])))
        made.compile(optimizers.SGD(0.05), "mse", **compiling)
    history = made.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    loss = made.evaluate(X, Y, batch_size=8, verbose=0)
    outputs = made.predict(X, batch_size=8, verbose=0)
    hidden = [v for layer in tried for v in getattr(layer, "hidden", {}).values()]
    seen = {"losses": history["loss"], "loss": loss, "outputs": outputs}
    variables = [*made.variables, *hidden]
    return seen | {f"{i} {v.path}": v.numpy() for i, v in enumerate(variables)}


@functools.cache
def stock():
    return results(RIGHT.values(), keras.Model)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_what_layers_assign_or_add_is_that_of_the_whole_batch(place):
    strategy, compiling = PLACES[place]
    got = results(RIGHT.values(), training.DistributedModel, strategy, **compiling)
    for (name, one), other in zip(got.items(), stock().values(), strict=True):
        np.testing.assert_allclose(one, other, 1e-4, 1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_pieces_can_compute_is_refused_unless_there_is_one(name):
    layer, message = REFUSED[name]
    one, *several = PLACES.values()
    expected = results([layer], keras.Model)
    got = results([layer], training.DistributedModel, one[0], **one[1])
    for mine, other in zip(got.values(), expected.values(), strict=True):
        np.testing.assert_allclose(mine, other, 1e-5, 1e-6)
    for strategy, compiling in several:
        with pytest.raises(ValueError, match=message) as caught:
            results([layer], training.DistributedModel, strategy, **compiling)
        assert str(caught.value).count(". ") == 0


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("loss", [keras.losses.Dice, keras.losses.Tversky, keras.losses.Circle])
def test_a_loss_that_mixes_rows_is_refused_though_it_is_a_mean_of_some(loss, activation):
    with training.strategy("mirrored").scope():
        inputs = keras.Input((8,))
        made = training.DistributedModel(inputs, layers.Dense(3, activation=activation)(inputs))
        made.compile("sgd", loss(), jit_compile=False)
    labels = RANDOM.integers(0, 2, Y.shape) if loss is not keras.losses.Circle else Y[:, 0] > 0
    with pytest.raises(ValueError, match="mixes the rows of a batch"):
        made.fit(X, np.asarray(labels, "float32"), verbose=0)


def root(y, p):
    return ops.sqrt(ops.mean((y - p) ** 2))


class Worst(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="worst")
        self.value = self.add_weight(initializer="zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(ops.maximum(self.value, ops.max(ops.abs(y_true - y_pred))))

    def result(self):
        return self.value


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_metrics_that_are_no_sums_see_the_whole_batch(place):
    def logs(model, strategy, **compiling):
        keras.utils.set_random_seed(1)
        with training.strategy(strategy).scope():
            inputs = keras.Input((8,))
            made = model(inputs, layers.Dense(3)(inputs))
            metrics = [Worst(), root, "mae"]
            made.compile("sgd", "mse", metrics=metrics, **{"jit_compile": False} | compiling)
        history = made.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        return history | made.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)

    strategy, compiling = PLACES[place]
    expected = logs(keras.Model, "default")
    got = logs(training.DistributedModel, strategy, **compiling)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name] == pytest.approx(values, rel=1e-5), name


def test_xla_is_not_chosen_where_it_cannot_compile(capsys):
    tf = pytest.importorskip("tensorflow")

    def loss(y, p):
        counted = tf.numpy_function(lambda a: np.float32(a.sum()), [y], tf.float32)
        return ops.mean((y - p) ** 2) + 0 * tf.reshape(counted, [])

    inputs = keras.Input((8,))
    made = training.DistributedModel(inputs, layers.Dense(3)(inputs))
    made.compile("sgd", loss)
    assert np.isfinite(made.fit(X, Y, verbose=0, epochs=2).history["loss"]).all()
    assert not made.jit_compile
    assert capsys.readouterr().out.count("XLA, which cannot compile PyFunc") == 1
