"""Refusals of a `DistributedModel`: one sentence, before anything has changed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from right_or_refused import SETTINGS, one_sentence, slow_but

from keras_elu import training

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.ones((8, 1), "float32")
OVERRIDES = {
    "train_step": r"compute_loss",
    "test_step": r"compute_loss",
    "predict_step": r"call",
    "make_train_function": r"compute_loss",
    "make_test_function": r"compute_loss",
    "make_predict_function": r"call",
}


def overriding(name, base=training.DistributedModel):
    def method(self, *arguments, **keywords):
        raise AssertionError("called")

    return type("Mine", (base,), {name: method})


def functional(cls, strategy="default", **compiling):
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((4,))
        model = cls(inputs, layers.Dense(1)(inputs))
        model.compile(**{"optimizer": "sgd", "loss": "mse", "jit_compile": False} | compiling)
    return model


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", OVERRIDES)
def test_an_overridden_step_is_refused_in_compile(name, setting):
    strategy, parts = SETTINGS[setting]
    with pytest.raises(ValueError, match=name) as caught:
        functional(overriding(name), strategy, micro_batches=parts)
    text = one_sentence(caught.value)
    assert OVERRIDES[name] in text.replace(name, ""), text


def test_a_step_overridden_by_a_mixin_a_parent_or_the_instance_is_refused():
    class Mixin:
        def train_step(self, data):
            return super().train_step(data)

    class Mixed(Mixin, training.DistributedModel):
        pass

    class Child(overriding("test_step")):
        pass

    for cls in (Mixed, Child):
        with pytest.raises(ValueError, match=r"(train|test)_step") as caught:
            functional(cls)
        one_sentence(caught.value)
    inputs = keras.Input((4,))
    model = training.DistributedModel(inputs, layers.Dense(1)(inputs))
    model.train_step = lambda data: {}
    with pytest.raises(ValueError, match="train_step") as caught:
        model.compile("sgd", "mse")
    one_sentence(caught.value)


def test_a_subclass_with_call_is_refused_the_same_way():
    class Mine(training.DistributedModel):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            return {}

    with pytest.raises(ValueError, match="train_step") as caught:
        Mine().compile("sgd", "mse")
    one_sentence(caught.value)


def test_a_compute_loss_beside_a_synchronised_normalisation_is_refused_on_replicas():
    class Own(training.DistributedModel):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean((y - y_pred) ** 2)

    for setting in ("one replica", "two replicas"):
        with training.strategy(SETTINGS[setting][0]).scope():
            inputs = keras.Input((4,))
            model = Own(inputs, layers.BatchNormalization(synchronized=True)(inputs))
            if setting == "one replica":
                model.compile("sgd", "mse", jit_compile=False)
                continue
            with pytest.raises(ValueError, match="overrides compute_loss") as caught:
                model.compile("sgd", "mse", jit_compile=False)
            one_sentence(caught.value)


def test_other_overridden_methods_are_called():
    """compute_loss may be overridden, and compute_metrics if it returns the metrics' results."""

    class Mine:
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight, training)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "twice": 2 * logs["mae"]}

    plain = type("Plain", (Mine, keras.Model), {})
    distributed = type("Distributed", (Mine, training.DistributedModel), {})
    expected = functional(plain, metrics=["mae"])
    expected.fit(X[:7], Y[:7], batch_size=4, shuffle=False, verbose=0)
    for strategy, parts in SETTINGS.values():
        try:
            model = functional(distributed, strategy, metrics=["mae"], micro_batches=parts)
            logs = model.fit(X[:7], Y[:7], batch_size=4, shuffle=False, verbose=0).history
        except ValueError as error:
            one_sentence(error)  # "twice" is not the result of a metric
            continue
        for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
        assert logs["twice"][0] == pytest.approx(2 * logs["mae"][0])


def with_compute_loss(cls, loss, strategy, compiling, **keywords):
    class Own(cls):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return loss(y, y_pred)

    return functional(Own, strategy, **compiling, **keywords)


@pytest.mark.slow
@pytest.mark.parametrize("compiling", [{}, {"loss": None}], ids=["a loss", "no loss"])
def test_a_compute_loss_that_ignores_the_loss_of_compile_is_right_or_refused(compiling):
    def mean(y, p):
        return keras.ops.mean((y - p) ** 2)

    def ratio(y, p):
        return keras.ops.sum((y - p) ** 2) / keras.ops.sum(y**2)

    targets = np.linspace(-1, 1, 8, dtype="float32")[:, None]
    for loss in (mean, ratio):
        plain = with_compute_loss(keras.Model, loss, "default", compiling)
        expected = plain.fit(X, targets, shuffle=False, verbose=0).history
        expected = expected["loss"][0], plain.evaluate(X, targets, verbose=0)
        for setting, (strategy, parts) in SETTINGS.items():
            model = with_compute_loss(
                training.DistributedModel, loss, strategy, compiling, micro_batches=parts
            )
            if loss is ratio and setting != "one replica":
                with pytest.raises(ValueError, match="compute_loss of Own mixes") as caught:
                    model.fit(X, targets, verbose=0)
                one_sentence(caught.value)
                continue
            got = model.fit(X, targets, shuffle=False, verbose=0).history["loss"][0]
            assert (got, model.evaluate(X, targets, verbose=0)) == pytest.approx(expected, 1e-5)


def ragged(strategy, cls=training.DistributedModel, **compiling):
    class Pool(layers.Layer):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(5, 3)

        def call(self, x):
            dense = x.to_tensor() if isinstance(x, tf.RaggedTensor) else x
            return tf.reduce_mean(self.embedding(dense), 1)

        def compute_output_shape(self, shape):
            return (shape[0], 3)

    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((None,), dtype="int32", ragged=True)
        model = cls(inputs, layers.Dense(1)(Pool()(inputs)))
        model.compile("sgd", "mse", jit_compile=False, **compiling)
    x = tf.ragged.constant([[1, 2], [3]] * 4, dtype=tf.int32)
    return model, tf.data.Dataset.from_tensor_slices((x, Y)).batch(4)


def sparse(strategy, cls=training.DistributedModel, **compiling):
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((8,), sparse=True)
        model = cls(inputs, layers.Dense(1)(inputs))
        model.compile("sgd", "mse", jit_compile=False, **compiling)
    x = tf.sparse.from_dense(np.eye(8, dtype="float32"))
    return model, tf.data.Dataset.from_tensor_slices((x, Y)).batch(4)


KINDS = {"ragged": ragged, "sparse": sparse}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_and_sparse_inputs_are_as_stock_on_one_replica(kind):
    model, data = KINDS[kind]("default")
    plain, _ = KINDS[kind]("default", keras.Model)
    logs, expected = (m.fit(data, verbose=0, shuffle=False).history for m in (model, plain))
    assert logs == {name: pytest.approx(value, 1e-5) for name, value in expected.items()}
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    assert model.evaluate(data, verbose=0) == pytest.approx(plain.evaluate(data, verbose=0), 1e-5)
    np.testing.assert_allclose(
        model.predict(data, verbose=0), plain.predict(data, verbose=0), 1e-5, 1e-6
    )


@pytest.mark.parametrize("use", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("setting", ["two replicas", "two micro-batches"])
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_and_sparse_inputs_are_refused_in_several_pieces(kind, setting, use):
    strategy, parts = SETTINGS[setting]
    model, data = KINDS[kind](strategy, micro_batches=parts)
    before = model.get_weights()
    if parts > 1 and use != "fit":
        getattr(model, use)(data, verbose=0)  # which has no micro-batches
        return
    with pytest.raises(ValueError, match=f"(?i){kind}|micro_batches") as caught:
        getattr(model, use)(data, verbose=0)
    one_sentence(caught.value)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_single_batches_of_ragged_and_sparse_rows(kind):
    (model, data), (plain, _) = KINDS[kind]("default"), KINDS[kind]("default", keras.Model)
    ((x, y),) = data.take(1)
    try:
        expected = plain.train_on_batch(x, y)
    except Exception:  # stock Keras fails
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            model.train_on_batch(x, y)
        one_sentence(caught.value)
        return
    assert model.train_on_batch(x, y) == pytest.approx(expected, 1e-5)
    model, _ = KINDS[kind]("mirrored")
    with pytest.raises(ValueError, match=f"(?i){kind}") as caught:
        model.train_on_batch(x, y)
    one_sentence(caught.value)


# Outputs that depend on the other rows of the batch.


class MeanOverBatch(layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, 0)


class MeanInTraining(layers.Layer):
    def call(self, x, training=False):
        return x - keras.ops.mean(x, 0) if training else x


class MovingMean(layers.Layer):
    """Subtracts a moving mean that the same call has updated."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.5 * self.mean + 0.5 * keras.ops.mean(x, 0))
        return x - self.mean


MIXING = {
    "a layer": lambda x: MeanOverBatch()(x),
    "a layer in training": lambda x: MeanInTraining()(x),
    "a layer in training, after a dropout": lambda x: MeanInTraining()(
        layers.BatchNormalization()(layers.Dropout(0.5)(x))
    ),
    "a layer that uses what it assigns": lambda x: MovingMean()(x),
    "an operation": lambda x: x - keras.ops.mean(x, 0, keepdims=True),
    "a function": lambda x: layers.Lambda(lambda x: x - keras.ops.mean(x, 0))(x),
    "an activation": lambda x: layers.Dense(4, activation=lambda x: x - keras.ops.mean(x, 0))(x),
    "a layer of Keras along the rows": lambda x: layers.Softmax(axis=0)(x),
    "a layer of Keras along the rows, counted from the end": lambda x: layers.Softmax(axis=-2)(x),
    "a layer after one that draws": lambda x: MeanOverBatch()(Draws()(x)),
    "a nested model": lambda x: keras.Sequential([keras.Input((4,)), MeanOverBatch()])(x),
}
BY_ROW = {
    "a layer": lambda x: layers.Lambda(lambda x: x**2)(x),
    "an operation": lambda x: x + keras.ops.mean(x, -1, keepdims=True),
    "a layer that draws": lambda x: Draws()(x),
    "a layer after one that draws": lambda x: layers.Lambda(lambda x: x**2)(Draws()(x)),
    "a layer that draws without a seed": lambda x: layers.Lambda(unseeded)(x),
    "a layer of Keras along an axis of the rows": lambda x: layers.Flatten()(
        layers.Softmax(axis=-2)(layers.Reshape((2, 2))(x))
    ),
    "in half precision": lambda x: layers.Lambda(lambda x: x**2, dtype="bfloat16")(x),
}


class Draws(layers.Layer):
    """A variational sample, for which each piece draws its own numbers."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def unseeded(x):
    return x + tf.random.normal(tf.shape(x))


def of_network(network, strategy, parts):
    with training.strategy(strategy).scope():
        inputs = keras.Input((4,))
        model = training.DistributedModel(inputs, layers.Dense(1)(network(inputs)))
        model.compile("sgd", "mse", jit_compile=False, micro_batches=parts)
    return model


@pytest.mark.parametrize("name", MIXING)
def test_outputs_that_depend_on_other_rows_are_refused_in_several_pieces(name):
    for setting in ("two replicas", "two micro-batches"):
        model = of_network(MIXING[name], *SETTINGS[setting])
        before = model.get_weights()
        with pytest.raises(ValueError, match="other rows of the batch") as caught:
            model.fit(X, Y, verbose=0)
        one_sentence(caught.value)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_ROW)
def test_outputs_of_single_rows_are_not_refused(name):
    for setting in ("two replicas", "two micro-batches"):
        model = of_network(BY_ROW[name], *SETTINGS[setting])
        assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


def test_a_prediction_that_depends_on_other_rows_is_refused_on_two_replicas():
    model = of_network(MIXING["a layer"], "mirrored", 1)
    with pytest.raises(ValueError, match="other rows of the batch") as caught:
        model.predict(X, verbose=0)
    one_sentence(caught.value)


class Centralized(keras.optimizers.SGD):
    """Subtracts the mean of each gradient, as its authors wrote it for stock Keras."""

    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(g - tf.reduce_mean(g), v) for g, v in grads_and_vars])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_optimizer_with_an_apply_gradients_of_its_own_is_refused(wrapped, setting):
    strategy, parts = SETTINGS[setting]
    with training.strategy(strategy).scope():
        optimizer = Centralized(0.1)
        if wrapped:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    with pytest.raises(ValueError, match="override apply instead") as caught:
        functional(training.DistributedModel, strategy, optimizer=optimizer, micro_batches=parts)
    assert "Centralized overrides apply_gradients" in one_sentence(caught.value)


def test_what_works_without_compile_as_in_stock():
    for strategy in ("default", "mirrored"):
        keras.utils.set_random_seed(1)
        with training.strategy(strategy).scope():
            inputs = keras.Input((4,))
            outputs = layers.Dense(1)(inputs)
            model = training.DistributedModel(inputs, outputs)
        expected = keras.ops.convert_to_numpy(model(X))
        np.testing.assert_allclose(
            model.predict(X[:7], batch_size=4, verbose=0), expected[:7], 1e-5
        )
        np.testing.assert_allclose(model.predict_on_batch(X[:7]), expected[:7], 1e-5)
        with pytest.raises(ValueError, match="compile"):
            model.fit(X, Y, verbose=0)


def test_single_batches_are_those_of_stock():
    expected = None
    for strategy, cls in (
        ("default", keras.Model),
        ("default", training.DistributedModel),
        ("mirrored", training.DistributedModel),
    ):
        model = functional(cls, strategy, metrics=["mae"])
        got = []
        for rows in (8, 8, 7, 1):
            got.append(model.train_on_batch(X[:rows], Y[:rows]))
            got.append(model.test_on_batch(X[:rows], Y[:rows]))
            got.append(model.predict_on_batch(X[:rows]))
        got.append(model.train_on_batch(X, Y, np.arange(8.0), return_dict=True)["loss"])
        got.append(model.train_on_batch(X, tf.constant(Y), return_dict=True)["mae"])
        got += model.get_weights()
        expected = expected or got
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-5)


def test_a_subclass_with_call_is_made_after_a_functional_model():
    class Mine(training.DistributedModel):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    functional(training.DistributedModel)
    for strategy in ("default", "mirrored"):
        keras.utils.set_random_seed(1)
        with training.strategy(strategy).scope():
            model = Mine()
            model.compile("sgd", "mse")  # not built, with the defaults
        model.fit(X[:7], Y[:7], batch_size=4, verbose=0)
        assert int(model.optimizer.iterations.numpy()) == 2


def test_a_subclass_may_be_made_of_two_models():
    """A GAN is: its arguments are not inputs and outputs."""

    class Pair(training.DistributedModel):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second = first, second

        def call(self, x):
            return self.second(self.first(x))

    model = Pair(layers.Dense(3), layers.Dense(1))
    model.compile("sgd", "mse", jit_compile=False)
    assert model.predict(X, verbose=0).shape == (8, 1)


def test_a_list_of_layers_with_an_input_makes_a_built_model():
    model = training.DistributedModel([keras.Input((4,)), layers.Dense(3)])
    assert model.built
    assert model.count_params() == 15


@pytest.mark.parametrize("strategy", slow_but(["default", "mirrored"], "default"))
def test_a_list_of_layers_makes_a_model(strategy):
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        model = training.DistributedModel([layers.Dense(3, "tanh"), layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
    logs = model.fit(X[:7], Y[:7], batch_size=4, verbose=0, shuffle=False).history
    keras.utils.set_random_seed(1)
    plain = keras.Sequential([layers.Dense(3, "tanh"), layers.Dense(1)])
    plain.compile("sgd", "mse", jit_compile=False)
    expected = plain.fit(X[:7], Y[:7], batch_size=4, verbose=0, shuffle=False).history
    assert logs["loss"] == pytest.approx(expected["loss"], 1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), plain.predict(X, verbose=0), 1e-5)


def auto(**making):
    """A small dense network, which "auto" would compile by XLA but for the given part."""
    keras.utils.set_random_seed(1)
    layer = making.pop("layer", lambda x: x)
    inputs = keras.Input((4,))
    model = training.DistributedModel(
        inputs,
        layers.Dense(1, kernel_regularizer=making.pop("regularizer", None))(layer(inputs)),
    )
    model.compile("sgd", **({"loss": "mse"} | making))
    return model


def by_numpy(x):
    return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), x.shape)


def strings(x):
    return tf.strings.to_number(tf.strings.as_string(x))


NOT_COMPILABLE = {
    "a loss by numpy_function": lambda: {
        "loss": lambda y, p: tf.reduce_mean((by_numpy(y) - p) ** 2)
    },
    "a loss of strings": lambda: {"loss": lambda y, p: tf.reduce_mean((strings(y) - p) ** 2)},
    "a metric by numpy_function": lambda: {
        "metrics": [lambda y, p: tf.reduce_mean(by_numpy(p) - y, -1)]
    },
    "a regulariser by numpy_function": lambda: {
        "regularizer": lambda w: tf.reduce_sum(by_numpy(w))
    },
    "a layer by numpy_function": lambda: {"layer": layers.Lambda(by_numpy, output_shape=(4,))},
    "a layer by py_function": lambda: {
        "layer": layers.Lambda(
            lambda x: tf.ensure_shape(tf.py_function(lambda a: a, [x], tf.float32), x.shape),
            output_shape=(4,),
        )
    },
    "a nested model of such a layer": lambda: {
        "layer": keras.Sequential([keras.Input((4,)), layers.Lambda(strings, output_shape=(4,))])
    },
    "a layer that says so": lambda: {"layer": NotByXLA()},
}


class NotByXLA(layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_jit = False

    def call(self, x):
        return by_numpy(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_COMPILABLE)
def test_auto_never_picks_xla_for_what_cannot_run(name):
    model = auto(**NOT_COMPILABLE[name]())
    logs = model.fit(X, Y, batch_size=4, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert int(model.optimizer.iterations.numpy()) == 2
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
