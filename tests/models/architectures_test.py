"""What one network alone has."""

import keras
import numpy as np
import pytest

from keras_elu import models


def _sides(model):
    """Height and width of every map, from the images to the last one."""
    shapes = [layer.output.shape for layer in model.layers if len(layer.output.shape) == 4]
    sides = [shape[1:3] for shape in shapes]
    return [side for i, side in enumerate(sides) if i == 0 or side != sides[i - 1]]


def test_the_cifar_networks_halve_the_image_to_one_pixel():
    squares = [(side, side) for side in (32, 16, 8, 4, 2, 1)]
    assert _sides(models.elu_cifar_11()) == squares
    assert _sides(models.elu_cifar_18(kernel_initializer="zeros")) == squares


def test_cifar_drop_out_is_after_the_pools_and_none_where_its_rate_is_zero():
    rates = [layer.rate for layer in models.elu_cifar_11().layers if hasattr(layer, "rate")]
    assert rates == [0.1, 0.2, 0.3, 0.4, 0.5]
    rates = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0)
    model = models.elu_cifar_18(dropout=rates, dropout_everywhere=True, kernel_initializer="zeros")
    rates = [layer.rate for layer in model.layers if hasattr(layer, "rate")]
    assert rates == [0.1] * 4 + [0.2] * 4 + [0.3] * 3 + [0.4] * 3 + [0.5] * 2


def test_the_second_phase_takes_the_weights_of_the_first():
    first, second = (
        models.elu_cifar_18(dropout_everywhere=value, kernel_initializer="zeros")
        for value in (False, True)
    )
    assert [w.path for w in first.weights] == [w.path for w in second.weights]
    assert [w.shape for w in first.weights] == [w.shape for w in second.weights]


def test_the_paper_s_weight_decay_is_half_of_it_in_keras():
    for model in (models.elu_cifar_11(), models.elu_imagenet_15(width=1 / 16)):
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                assert float(layer.kernel_regularizer.l2) == pytest.approx(0.00025)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (224, [224, 112, 56, 28, 14, 7]),
        (256, [256, 128, 64, 32, 16, 8]),
        (97, [97, 49, 25, 13, 7, 4]),
        (96, [96, 48, 24, 12, 6]),
        (64, [64, 32, 16, 8, 4]),
        (32, [32, 16, 8, 4]),
        (8, [8, 4]),
        (1, [1]),
    ],
)
def test_the_imagenet_network_leaves_small_images_enough_for_its_pyramid(side, expected):
    model = models.elu_imagenet_15((side, side, 3), width=1 / 16)
    assert _sides(model) == [(s, s) for s in expected]


def test_each_side_of_an_image_is_pooled_for_itself():
    assert _sides(models.elu_imagenet_15((224, 8, 3), width=1 / 16))[-1] == (7, 4)


def test_weights_fit_images_of_any_size():
    small, large = (
        models.elu_imagenet_15((side, side, 3), 10, width=1 / 16) for side in (32, None)
    )
    large.set_weights(small.get_weights())
    assert large(np.ones((1, 224, 190, 3))).shape == (1, 10)


def test_the_imagenet_network_drops_half_of_its_two_dense_layers():
    model = models.elu_imagenet_15(width=1 / 16)
    rates = [layer.rate for layer in model.layers if hasattr(layer, "rate")]
    assert rates == [0.5, 0.5]


def test_a_residual_block_is_its_shortcut_and_its_branch_and_nothing_more():
    keras.utils.set_random_seed(0)
    model = models.elu_resnet((8, 8, 3), depth=8)
    names = ("conv_2", "conv_3", "batch_norm_2", "batch_norm_1", "add_1", "conv_5")
    tensors = [model.get_layer(name).output for name in names]
    block = keras.Model(model.input, [*tensors, model.get_layer("conv_5").input])
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    first, second, branch, entered, added, _, left = map(np.asarray, block(x))
    np.testing.assert_allclose(added, entered + branch, rtol=1e-5)
    np.testing.assert_array_equal(left, added)
    kernel = model.get_layer("conv_3").kernel.numpy()
    elu = np.where(first > 0, first, np.expm1(np.minimum(first, 0)))
    padded = np.pad(elu, [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = sum(
        padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(second, expected, rtol=1e-3, atol=1e-4)


def test_without_batch_normalization_a_residual_network_starts_as_its_shortcuts():
    model = models.elu_resnet((8, 8, 3), depth=20, batch_norm=False)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    inner = keras.Model(model.input, [model.get_layer(name).output for name in ("add_1", "add_3")])
    first, third = map(np.asarray, inner(x))
    np.testing.assert_array_equal(first, third)
    assert np.std(model(x)) > 0


def test_resnet_50_has_fifty_layers_on_its_longest_path():
    model = models.elu_resnet_50((64, 64, 3), kernel_initializer="zeros")
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    assert convolutions - 4 + 1 == 50
    assert _sides(model)[-1] == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.elu_resnet(depth=21), "depth=21"),
        (lambda: models.elu_resnet(depth=2), "depth=2"),
        (lambda: models.elu_resnet(depth=20.0), "depth=20.0"),
        (lambda: models.elu_resnet(depth="20"), "depth='20'"),
        (lambda: models.elu_imagenet_15(width=0), "width=0"),
        (lambda: models.elu_imagenet_15(width=float("inf")), "width=inf"),
        (lambda: models.elu_imagenet_15(width="1"), "width='1'"),
        (lambda: models.elu_imagenet_15(dropout=1), r"dropout=1"),
        (lambda: models.elu_imagenet_15(dropout=None), r"dropout=None"),
        (lambda: models.elu_cifar_11(dropout=[0.5] * 5), "give 6 numbers"),
        (lambda: models.elu_cifar_11(dropout=0.5), "give 6 numbers"),
        (lambda: models.elu_cifar_18(dropout=[0.5] * 6 + [1.5]), "give 7 numbers"),
    ],
)
def test_a_bad_argument_gets_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
