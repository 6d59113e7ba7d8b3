"""The probe computes what a training step would, in NumPy's opinion too, and changes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import layers
from keras_elu.monitoring import probe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")


def network(*middle, optimizer="sgd"):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((3,))
    for layer in [keras.layers.Dense(4, name="first"), *middle, keras.layers.Dense(2, name="last")]:
        x = layer(x)
    model = keras.Model(inputs, x)
    model.compile(optimizer, "mse")
    return model


def test_numbers_and_histograms_agree_with_numpy():
    model = network(layers.ELU(alpha=0.5, name="elu"))
    made = probe.Probe(model, X, Y)
    scalars, histograms = made()
    assert made.scalars == ["activation_mean/elu", "saturated_share/elu"]
    names = ["first/kernel", "first/bias", "last/kernel", "last/bias"]
    assert made.histograms == ["activations/elu", *(f"gradients/{name}" for name in names)]
    w, b, v, c = (x.astype("float64") for x in model.get_weights())
    z = X @ w + b
    y = np.where(z > 0, z, 0.5 * np.expm1(z))
    slope = np.where(z > 0, 1, 0.5 * np.exp(z))
    error = 2 * (y @ v + c - Y) / Y.size
    before = (error @ v.T) * slope
    gradients = [X.T @ before, before.sum(0), y.T @ error, error.sum(0)]
    np.testing.assert_allclose(scalars, [y.mean(), (slope < 0.05).mean()], rtol=1e-5)
    for values, histogram in zip([y, *gradients], histograms, strict=True):
        left, right, counts = histogram.T
        np.testing.assert_allclose(left[0], values.min(), rtol=1e-4)
        np.testing.assert_allclose(right[-1], values.max(), rtol=1e-4)
        np.testing.assert_array_equal(left[1:], right[:-1])
        expected, _ = np.histogram(values, np.append(left, right[-1]).astype("float64"))
        assert counts.sum() == values.size
        assert np.abs(counts - expected).sum() <= 4  # values at an edge, and the extremes


def test_a_probe_changes_no_variable():
    middle = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), layers.ELU()]
    model = network(*middle, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    made = probe.Probe(model, X, Y)
    first, second = made(), made()
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for one, other in zip(first, second, strict=True):  # with the same dropout masks
        np.testing.assert_array_equal(one, other)


def test_small_gradients_survive_the_scaling_of_a_loss():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=2.0**10)
    results = [probe.Probe(network(optimizer=optimizer), X, Y)() for optimizer in ("sgd", scaled)]
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_histogram_of_one_value_has_all_of_it(value):
    left, right, counts = probe._histogram(tf.fill([5], value)).numpy().T
    assert counts.sum() == 5
    assert left[0] <= value <= right[-1]
    assert left[0] < right[-1]
