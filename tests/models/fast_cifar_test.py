"""The network that learns CIFAR in a few epochs."""

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional

from keras_elu import layers, models

WIDE = {"classes": 100, "widths": (128, 384, 768), "convolutions": 3}


def conv(before, filters):
    """Weights of a 3x3 convolution without a bias."""
    return 9 * before * filters


STEM = 4 * 3 * 24
TEN = {
    "stem": (31 * 31, STEM),
    "first": (31 * 31, conv(24, 64)),
    "second": (15 * 15, conv(64, 64) + conv(64, 256)),
    "third": (7 * 7, conv(256, 256) + conv(256, 384)),
    "fourth": (3 * 3, conv(384, 384)),
    "logits": (1, 384 * 10),
}
HUNDRED = {
    "stem": (31 * 31, STEM),
    "first": (31 * 31, conv(24, 128)),
    "second": (15 * 15, 2 * conv(128, 128) + conv(128, 384)),
    "third": (7 * 7, 2 * conv(384, 384) + conv(384, 768)),
    "fourth": (3 * 3, 2 * conv(768, 768)),
    "logits": (1, 768 * 100),
}


@pytest.mark.parametrize(
    ("arguments", "table", "biases", "parameters", "arithmetic"),
    [
        ({}, TEN, 24 + 2 * (64 + 256 + 384), 3_005_368, 139_234_848),
        (WIDE, HUNDRED, 24 + 3 * (128 + 384 + 768), 16_771_128, 548_475_168),
    ],
)
def test_parameters_and_arithmetic_are_those_of_the_table(
    arguments, table, biases, parameters, arithmetic
):
    assert sum(weights for _, weights in table.values()) + biases == parameters
    assert sum(places * weights for places, weights in table.values()) == arithmetic
    model = models.fast_cifar(kernel_initializer="zeros", **arguments)
    # The offset of the whitening; a mean and a variance for each bias of batch normalisation.
    statistics = 24 + 2 * (biases - 24)
    assert model.count_params() == parameters + statistics
    assert models.multiply_accumulates(model) == arithmetic
    assert models.pflop(model, 18 * 50_000) == pytest.approx(6 * arithmetic * 18 * 50_000 / 1e15)


def small(**arguments):
    keras.utils.set_random_seed(0)
    defaults = {"input_shape": (18, 18, 3), "classes": 7, "widths": (5, 8, 12), "convolutions": 3}
    model = models.fast_cifar(**defaults | arguments)
    images = pixels()
    model.get_layer("patch_whitening").adapt(images)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # so that nothing stays 0 or 1
        if weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
        if weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2, weight.shape))
    return model, images


def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 18, 18, 3)).astype("uint8")


def in_torch(model, images, gain, activation, training):
    """The network in PyTorch, written out for three stages of three convolutions."""

    def tensor(weight):
        return torch.tensor(keras.ops.convert_to_numpy(weight).astype("float64"))

    def convolution(x, name, padding):
        kernel = tensor(model.get_layer(name).kernel).permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, padding=padding)

    def normalized(x, number):
        layer = model.get_layer(f"batch_norm_{number}")
        mean, variance = tensor(layer.moving_mean), tensor(layer.moving_variance)
        return functional.batch_norm(
            x, mean, variance, bias=tensor(layer.beta), training=training, eps=1e-5
        )

    x = torch.tensor(images.astype("float64")).permute(0, 3, 1, 2)
    stem = model.get_layer("patch_whitening")
    shift = tensor(stem.offset) + tensor(stem.bias)
    x = activation(gain * (convolution(x, stem.name, 0) + shift[:, None, None]))
    for first in (1, 4, 7):
        x = functional.max_pool2d(convolution(x, f"conv_{first}", 1), 2)
        x = activation(gain * normalized(x, first))
        x = activation(gain * normalized(convolution(x, f"conv_{first + 1}", 1), first + 1))
        y = normalized(convolution(x, f"conv_{first + 2}", 1), first + 2)
        x = x + activation(gain * y)
    x = x.amax(dim=(2, 3)) / (9 * gain)
    return (x @ tensor(model.get_layer("logits").kernel)).numpy()


def celu(x):
    """ELU of 2 x, through PyTorch's CELU, for a gain of 2."""
    return 2 * functional.celu(x / 2, alpha=0.5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "gain", "activation"),
    [("elu", 2.0, celu), ("elu", 1.0, functional.elu), ("gelu", 1.5, functional.gelu)],
)
def test_the_network_is_that_of_pytorch(name, gain, activation, training):
    model, images = small(activation=name, gain=gain)
    expected = in_torch(model, images, gain, activation, training)
    found = keras.ops.convert_to_numpy(model(images, training=training))
    assert abs(expected).max() > 0.01
    tolerance = 0.02 if name == "gelu" else 1e-4  # Keras's GELU is an approximation
    np.testing.assert_allclose(found, expected, atol=tolerance * abs(expected).max())


def test_the_first_filters_of_each_convolution_copy_its_input():
    model, _ = small()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            channels = min(kernel.shape[2:])
            np.testing.assert_array_equal(kernel[1, 1, :channels, :channels], np.eye(channels))
            assert abs(kernel[0, 0, :, :channels]).max() == 0


def test_no_activation_but_the_given_one_is_left():
    model, _ = small(activation="elu")
    found = [layer for layer in model.layers if layer.name.startswith("activation")]
    assert len(found) == 10
    assert all(type(layer) is layers.ELU for layer in found)
    for layer in model.layers:
        assert getattr(layer, "activation", keras.activations.linear) is keras.activations.linear


def test_weight_decay_is_on_kernels_alone_and_the_moving_statistics_move_fast():
    model, _ = small(weight_decay=0.002)
    decayed = [layer for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    assert len(decayed) == 10
    assert all(float(x.kernel_regularizer.l2) == pytest.approx(0.001) for x in decayed)
    assert len(model.losses) == 10
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {(x.momentum, x.scale, x.beta_regularizer) for x in norms} == {(0.6, False, None)}


@pytest.mark.parametrize("side", [2, 3, 8])
def test_small_images_are_pooled_to_one_pixel_and_no_further(side):
    model = models.fast_cifar((side, side, 1), widths=(2, 3, 4))
    assert model(np.zeros((1, side, side, 1), "uint8")).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": 0}, "gain=0: give a positive finite number"),
        ({"temperature": float("inf")}, "temperature=inf: give a positive finite number"),
        ({"widths": ()}, r"widths=\(\), convolutions=2: give positive whole numbers"),
        ({"widths": (8, 0)}, r"widths=\(8, 0\)"),
        ({"convolutions": 0}, "convolutions=0: give positive"),
        ({"input_shape": (None, None, 3)}, "positive whole numbers"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.fast_cifar(**arguments)
