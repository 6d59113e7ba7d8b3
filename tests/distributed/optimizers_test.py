"""Optimizers in one, and an optimizer that serves a model again; stock Keras is the oracle."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from right_or_refused import SETTINGS, Case, assert_right, one_sentence, slow_but, stock

from keras_elu import training

X = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
FITTING = {"batch_size": 4, "shuffle": False, "verbose": 0}

# Several optimizers in one.


def of_kernels(**settings):
    return optimizers.Adam(0.01, **settings)


def by_pattern(**settings):
    default = optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=2)
    chosen = {".*kernel": of_kernels(**settings)}
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(default, chosen))


def by_function(**settings):
    made = {"kernel": of_kernels(**settings), "bias": optimizers.SGD(0.05, clipnorm=0.1)}
    return optimizers.MultiOptimizer(lambda variable: made[variable.name])


def scaled(**settings):
    return optimizers.LossScaleOptimizer(by_pattern(**settings), initial_scale=8.0)


SEVERAL = {"by pattern": by_pattern, "by function": by_function, "scaled": scaled}
several = pytest.mark.skipif(
    not hasattr(optimizers, "MultiOptimizer"), reason="Keras 3.14 has no MultiOptimizer"
)


def network(inputs):
    return layers.Dense(1)(layers.Dense(3, activation="tanh")(inputs))


@several
@pytest.mark.parametrize("name", slow_but(SEVERAL, "by pattern", "by function"))
def test_several_optimizers_update_as_in_stock(name):
    case = Case(network, (X, Y), compiling=lambda: {"optimizer": SEVERAL[name]()}, epochs=2)
    expected = stock(case)
    for setting in SETTINGS:
        assert_right(case, setting, expected)


@several
def test_several_optimizers_have_no_learning_rate_among_the_scalars():
    inputs = keras.Input((4,))
    model = training.DistributedModel(inputs, network(inputs))
    model.compile(by_pattern(), "mse")
    model.fit(X, Y, **FITTING)
    assert model.step_scalars.names == ("batch_loss", "input_wait")


@several
@pytest.mark.parametrize("name", SEVERAL)
def test_an_optimizer_that_accumulates_is_refused_among_several(name):
    inputs = keras.Input((4,))
    model = training.DistributedModel(inputs, network(inputs))
    before = model.get_weights()

    def train():
        model.compile(SEVERAL[name](gradient_accumulation_steps=2), "mse")
        assert name == "by function"  # its optimizers are known when it is built
        model.fit(X, Y, **FITTING)

    with pytest.raises(ValueError, match="pass micro_batches=2 to compile") as caught:
        train()
    one_sentence(caught.value)
    if name == "by function":
        with pytest.raises(ValueError, match="pass micro_batches=2 to compile"):
            model.train_on_batch(X, Y)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# An optimizer that is given to compile again.

AGAIN = {
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9, weight_decay=0.1),
    "adam": lambda: optimizers.Adam(0.01, global_clipnorm=0.1),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01), initial_scale=8.0),
}


def three_layers(cls, strategy="default"):
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((4,))
        x = layers.Dense(4, name="second")(layers.Dense(4, name="first")(inputs))
        return cls(inputs, layers.Dense(1)(x))


def refitted(cls, optimizer, strategy="default", trainable=(True, False, True), **compiling):
    """Trains with one optimizer, while the first layer is trainable or not."""
    model = three_layers(cls, strategy)
    with training.strategy(strategy).scope():
        optimizer = optimizer()
    for state in trainable:
        model.get_layer("first").trainable = state
        with training.strategy(strategy).scope():
            model.compile(optimizer, "mse", jit_compile=False, **compiling)
        model.fit(X, Y, epochs=2, **FITTING)
    return [variable.numpy() for variable in [*model.weights, *optimizer.variables]]


@pytest.mark.parametrize("name", slow_but(AGAIN, "momentum", "adam"))
def test_an_optimizer_continues_after_a_layer_was_frozen_as_in_stock(name):
    expected = refitted(keras.Model, AGAIN[name])
    for strategy, parts in SETTINGS.values():
        got = refitted(training.DistributedModel, AGAIN[name], strategy, micro_batches=parts)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("optimizer", "trainable", "message"),
    [
        (lambda: optimizers.SGD(0.05), (False, True), "was built without first/kernel"),
        (lambda: optimizers.SGD(0.05, use_ema=True), (True, False), "moving averages"),
    ],
)
def test_an_optimizer_that_does_not_fit_the_weights_is_refused(optimizer, trainable, message):
    with pytest.raises(ValueError):  # noqa: PT011, in words of Keras's and TensorFlow's
        refitted(keras.Model, optimizer, trainable=trainable)
    with pytest.raises(ValueError, match=message) as caught:
        refitted(training.DistributedModel, optimizer, trainable=trainable)
    assert "with a new optimizer" in one_sentence(caught.value)
