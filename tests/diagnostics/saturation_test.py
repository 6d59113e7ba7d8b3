"""The activity of a network's layers, against NumPy."""

import keras
import numpy as np

from keras_elu import diagnostics, layers


def test_activity_is_that_of_numpy():
    inputs = keras.Input((8,))
    hidden = layers.ELU(0.7, name="first")(keras.layers.Dense(16)(inputs))
    outputs = keras.layers.ReLU(name="second")(keras.layers.Dense(4)(hidden))
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    kernels = [random.normal(size=weight.shape).astype("float32") for weight in model.weights]
    model.set_weights(kernels)
    x = random.normal(size=(64, 8)).astype("float32")
    first = x.astype("float64") @ kernels[0] + kernels[1]
    elu = np.where(first > 0, first, 0.7 * np.expm1(first))
    second = elu @ kernels[2] + kernels[3]
    found = diagnostics.activity(model, x)
    assert list(found) == ["first", "second"]
    np.testing.assert_allclose(found["first"].mean, elu.mean(), rtol=1e-4)
    np.testing.assert_allclose(found["second"].mean, np.maximum(second, 0).mean(), rtol=1e-4)
    stuck = (first < 0) & (0.7 * np.exp(first) < 0.05)
    assert abs(found["first"].saturated - stuck.mean()) <= 1 / stuck.size
    assert abs(found["second"].saturated - (second < 0).mean()) <= 1 / second.size
