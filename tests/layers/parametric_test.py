"""ParametricELU and ShiftedReLU against PyTorch's autograd of the formulas written out."""

import keras
import numpy as np
import pytest
import torch
from derivatives import differentiate

from keras_elu import layers


def formula(x, alpha, scale=1.0):
    """PELU as its paper writes it; with a scale of 1 and for `x <= 0`, ELU with a learnt alpha."""
    return torch.where(x > 0, alpha / scale * x, alpha * torch.expm1(torch.clamp(x, max=0) / scale))


def gradients_of_parameters(layer, x):
    """The gradients of the layer's summed squares, by training one step of SGD."""
    before = [keras.ops.convert_to_numpy(w.value).copy() for w in layer.trainable_weights]
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(1e-3), loss=lambda _, y: keras.ops.sum(y * y))
    model.train_on_batch(x, np.zeros_like(x))
    after = [keras.ops.convert_to_numpy(w.value) for w in layer.trainable_weights]
    return [(b - a) / 1e-3 for b, a in zip(before, after, strict=True)]


@pytest.mark.parametrize(
    ("shared_axes", "shape"),
    [(None, (1, 1, 1)), ([1, 2], (1, 1, 3)), ([], (4, 5, 3)), ([3], (4, 5, 1))],
)
@pytest.mark.parametrize("scale", [None, 1.5])
def test_values_and_gradients_match_pytorch(shared_axes, shape, scale):
    x = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype("float32") - 0.5
    layer = layers.ParametricELU(0.8, scale, shared_axes)
    y, slope, _ = differentiate(layer, x)
    assert layer.alpha.shape == shape

    tx = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    ta = torch.full(shape, 0.8, dtype=torch.float64, requires_grad=True)
    if scale is None:
        parameters = [ta]
        ty = torch.where(tx > 0, tx, formula(tx, ta))
    else:
        parameters = [ta, torch.full(shape, 1.5, dtype=torch.float64, requires_grad=True)]
        ty = formula(tx, *parameters)
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        slope, torch.autograd.grad(ty.sum(), tx, retain_graph=True)[0], rtol=1e-5
    )
    expected = torch.autograd.grad((ty * ty).sum(), parameters)
    for actual, exact in zip(gradients_of_parameters(layer, x), expected, strict=True):
        np.testing.assert_allclose(actual, exact, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (2, 3), (1, 2), (3, 2, 2), (2,), (2, 2, 2, 2)])
@pytest.mark.parametrize("shared_axes", [None, [], [1]])
def test_one_process_serves_every_rank_and_shape(shape, shared_axes):
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32") - 0.5
    layer = layers.ParametricELU(0.8, shared_axes=shared_axes)
    layer(x)
    axes = tuple(
        axis for axis in range(len(shape) + 1) if axis == 0 or layer.alpha.shape[axis - 1] == 1
    )
    negative = np.expm1(np.minimum(x.astype("float64"), 0))
    exact = 2 * (0.8 * negative * negative).sum(axis=axes).reshape(layer.alpha.shape)
    (actual,) = gradients_of_parameters(layer, x)
    np.testing.assert_allclose(actual, exact, rtol=2e-3, atol=2e-4)


def test_parameters_stay_at_a_tenth_or_more():
    layer = layers.ParametricELU(0.11, scale=1.0)
    model = keras.Sequential([keras.Input((3,)), layer])
    # Pulls alpha down, as outputs near -alpha are asked to be 0.
    model.compile(keras.optimizers.SGD(10.0), loss="mse")
    model.fit(np.full((4, 3), -5.0), np.zeros((4, 3)), verbose=0)
    assert keras.ops.convert_to_numpy(layer.alpha.value) == np.float32(0.1)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({"alpha": 0}, (None, 3), "alpha must be a positive finite number"),
        ({"scale": -1.0}, (None, 3), "scale must be a positive finite number or None"),
        ({"shared_axes": [2]}, (None, 3), "shared_axes must lie between 1 and 1"),
        ({"shared_axes": []}, (None, None), "Axis 1 of the input shape .* has no known size"),
    ],
)
def test_wrong_arguments_are_explained(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        layers.ParametricELU(**arguments).build(shape)


@pytest.mark.parametrize("layer", [layers.ParametricELU(0.5, 2.0, [1]), layers.ShiftedReLU()])
def test_config_and_file_round_trip(layer, tmp_path):
    model = keras.Sequential([keras.Input((4, 3)), layer])
    x = np.linspace(-3, 3, 12, dtype="float32").reshape(1, 4, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_float32_parameters(dtype):
    layer = layers.ParametricELU(1.6733, scale=1.1, dtype=dtype)
    y = keras.ops.convert_to_numpy(layer(np.full((1, 3), -100.0)))
    assert keras.backend.standardize_dtype(layer.alpha.dtype) == "float32"
    np.testing.assert_allclose(y.astype("float32"), -1.6733, rtol=4e-3)


def test_shifted_relu_by_hand():
    x = np.array([-3.0, -0.5, 0.0, 2.0], "float32")
    square, slope, _ = differentiate(lambda x: layers.ShiftedReLU()(x) ** 2, x)
    assert square.tolist() == [1, 0.25, 0, 4]
    assert slope.tolist() == [0, -1, 0, 4]
