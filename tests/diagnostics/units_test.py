"""Numbers of units, against the same network in NumPy."""

import keras
import numpy as np
import oracle
import pytest

from keras_elu import diagnostics

EXACT = {"rtol": 1e-8, "atol": 1e-10}


def activations(model, x, held=None):
    first, second, _ = oracle.forward(held or oracle.weights(model), x)
    return {"first_elu": first.real, "second_elu": second.real}


def equal(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, **EXACT)


def test_means_and_medians_are_those_of_numpy():
    model, x, _ = oracle.network()
    outputs = activations(model, x)
    equal(diagnostics.unit_means(model, x), {n: y.mean(axis=0) for n, y in outputs.items()})
    equal(diagnostics.unit_medians(model, x), {n: np.median(y, 0) for n, y in outputs.items()})


def test_the_variance_over_epochs_is_that_of_each_unit():
    models = [oracle.network(seed)[0] for seed in range(3)]
    x = oracle.network()[1]
    medians = [diagnostics.unit_medians(model, x) for model in models]
    outputs = [activations(model, x) for model in models]
    expected = {
        name: np.var([np.median(y[name], axis=0) for y in outputs], axis=0) for name in outputs[0]
    }
    equal(diagnostics.variance_over_epochs(medians), expected)


@pytest.mark.parametrize("nested", [keras.Model, keras.Sequential])
def test_a_nested_model_is_computed_in_float64_too(nested):
    inner = keras.Input((4,))
    made = keras.Sequential([inner, keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
    if nested is keras.Model:
        made = keras.Model(made.inputs, made.outputs[0])
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(made(inputs)))
    first, _, second, _ = (keras.ops.convert_to_numpy(v).astype("float64") for v in model.variables)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    wanted = np.maximum(np.maximum(x @ first, 0) @ second, 0).mean(axis=0)
    equal(diagnostics.unit_means(model, x), {"relu": wanted})


def test_the_positions_of_a_channel_count_as_examples():
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inputs))
    x = np.random.default_rng(0).normal(size=(5, 2, 2, 3)).astype("float32")
    means = diagnostics.unit_means(model, x)["relu"]
    expected = np.maximum(x.astype("float64"), 0).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(means, expected, **EXACT)


def test_channels_that_are_not_the_last_axis_are_refused():
    first = {"data_format": "channels_first"}
    inputs = keras.Input((3, 4, 4))
    inner = keras.Model(inputs, keras.layers.Conv2D(2, 3, **first)(inputs))
    inputs = keras.Input((3, 4, 4))
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inner(inputs)))
    with pytest.raises(ValueError, match="last axis, because 'conv2d"):
        diagnostics.unit_means(model, np.ones((1, 3, 4, 4)))
    # Without positions, the units are the last axis in any case.
    inputs = keras.Input((2, 1, 1))
    x = keras.layers.ReLU(name="relu")(keras.layers.Flatten(**first)(inputs))
    means = diagnostics.unit_means(keras.Model(inputs, x), np.ones((1, 2, 1, 1)))
    assert means["relu"].tolist() == [1, 1]


def test_the_bias_shift_is_measured_after_one_step_of_gradient_descent():
    model, x, labels = oracle.network()
    held = oracle.weights(model)
    rate = 0.3
    moved = [
        w + rate * oracle.example_gradients(held, x, labels, i).mean(axis=0)
        for i, w in enumerate(held)
    ]
    before, after = activations(model, x), activations(model, x, moved)
    expected = {n: after[n].mean(axis=0) - before[n].mean(axis=0) for n in before}
    equal(diagnostics.bias_shift(model, x, labels, rate), expected)
    for new, old in zip(oracle.weights(model), held, strict=True):
        np.testing.assert_array_equal(new, old)


def test_the_correction_joins_the_numbers_of_the_blocks():
    model, x, labels = oracle.network()
    blocks = diagnostics.fisher_blocks(model, "second", x, seed=5)
    plain = diagnostics.dense_gradient(model, "second", x, labels)
    natural = blocks.natural_gradient(*plain, ridge=0.01)
    found = diagnostics.correction(model, "second", x, labels, ridge=0.01, seed=5)
    np.testing.assert_allclose(found.factor, blocks.correction_factor(0.01), **EXACT)
    np.testing.assert_allclose(found.incoming_mean, np.sqrt((blocks.mean**2).sum()), **EXACT)
    lengths = np.sqrt((blocks.weighted_mean**2).sum(axis=1))
    np.testing.assert_allclose(found.weighted_mean, lengths, **EXACT)
    for unit, cosine in enumerate(found.cosine):
        a, b = (np.append(of[0][unit], of[1][unit]) for of in (plain, natural))
        np.testing.assert_allclose(cosine, a @ b / np.sqrt(a @ a * (b @ b)), **EXACT)
        assert 0 < cosine <= 1  # the Fisher matrix is positive definite
