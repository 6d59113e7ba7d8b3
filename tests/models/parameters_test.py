"""Parameter counts, each a sum that is written out from the tables of the paper."""

import pytest

from keras_elu import models


def test_mnist_mlp():
    hidden = 784 * 128 + 128 + 7 * (128 * 128 + 128)
    assert hidden + 128 * 10 + 10 == 217_354
    assert models.mnist_mlp().count_params() == 217_354
    assert models.mnist_mlp((784,)).count_params() == 217_354


def test_mnist_autoencoder():
    encoder = 784 * 1000 + 1000 + 1000 * 500 + 500 + 500 * 250 + 250 + 250 * 30 + 30
    decoder = 30 * 250 + 250 + 250 * 500 + 500 + 500 * 1000 + 1000 + 1000 * 784 + 784
    assert encoder + decoder == 2_837_314
    assert models.mnist_autoencoder().count_params() == 2_837_314


def test_elu_cifar_11():
    count = (
        (25 * 3 * 192 + 192)
        + (192 * 192 + 192 + 9 * 192 * 240 + 240)
        + (240 * 240 + 240 + 4 * 240 * 260 + 260)
        + (260 * 260 + 260 + 4 * 260 * 280 + 280)
        + (280 * 280 + 280 + 4 * 280 * 300 + 300)
        + (300 * 300 + 300)
        + (300 * 100 + 100)
    )
    assert count == 1_669_028
    model = models.elu_cifar_11()
    assert model.count_params() == count
    assert sum(layer.name.startswith(("conv", "class")) for layer in model.layers) == 11


@pytest.mark.parametrize(("classes", "total"), [(100, 39_330_404), (10, 39_226_634)])
def test_elu_cifar_18(classes, total):
    hidden = (
        (9 * 3 * 384 + 384)
        + (384 * 384 + 384)
        + (4 * 384 * 384 + 384 + 4 * 384 * 640 + 640 + 4 * 640 * 640 + 640)
        + (640 * 640 + 640)
        + (4 * 640 * 768 + 768 + 2 * (4 * 768 * 768 + 768))
        + (768 * 768 + 768)
        + (4 * 768 * 896 + 896 + 4 * 896 * 896 + 896)
        + (9 * 896 * 896 + 896 + 4 * 896 * 1024 + 1024 + 4 * 1024 * 1024 + 1024)
        + (1024 * 1024 + 1024 + 4 * 1024 * 1152 + 1152)
        + (1152 * 1152 + 1152)
    )
    assert hidden + 1152 * classes + classes == total
    model = models.elu_cifar_18(classes=classes, kernel_initializer="zeros")
    assert model.count_params() == total
    assert sum(layer.name.startswith("conv") for layer in model.layers) == 18


@pytest.mark.parametrize("shape", [(224, 224, 3), (32, 48, 3), (None, None, 3)])
def test_elu_imagenet_15_at_an_eighth_of_its_width(shape):
    stacks = (
        (36 * 3 * 12 + 12)
        + (9 * 12 * 64 + 64 + 2 * (9 * 64 * 64 + 64))
        + (9 * 64 * 96 + 96 + 4 * (9 * 96 * 96 + 96))
        + (9 * 96 * 128 + 128 + 2 * (9 * 128 * 128 + 128))
    )
    dense = (21 * 128 * 512 + 512) + (512 * 512 + 512) + (512 * 1000 + 1000)
    model = models.elu_imagenet_15(shape, width=1 / 8)
    assert model.count_params() == stacks + dense
    assert sum(layer.name.startswith(("conv", "dense", "logits")) for layer in model.layers) == 15


@pytest.mark.parametrize("n", [1, 3, 9])
def test_elu_resnet(n):
    # Convolutions before batch normalisation have no bias; that has two parameters a channel.
    stem = 9 * 3 * 16 + 16 + 2 * 16

    def block(before, filters):
        return (9 * before * filters + filters) + 9 * filters * filters + 2 * filters

    def shortcut(before, filters):
        return before * filters + 2 * filters

    stages = (
        n * block(16, 16)
        + (block(16, 32) + shortcut(16, 32) + (n - 1) * block(32, 32))
        + (block(32, 64) + shortcut(32, 64) + (n - 1) * block(64, 64))
    )
    moving = 2 * (16 + n * (16 + 32 + 64) + 32 + 64)
    model = models.elu_resnet(depth=6 * n + 2)
    assert model.count_params() == stem + stages + 64 * 10 + 10 + moving


def test_elu_resnet_50():
    def block(before, filters):
        narrow = (before * filters + filters) + (9 * filters * filters + filters)
        return narrow + filters * 4 * filters + 2 * 4 * filters

    def stage(blocks, before, filters):
        shortcut = before * 4 * filters + 2 * 4 * filters
        return block(before, filters) + shortcut + (blocks - 1) * block(4 * filters, filters)

    stages = stage(3, 64, 64) + stage(4, 256, 128) + stage(6, 512, 256) + stage(3, 1024, 512)
    moving = 2 * (64 + 4 * 256 + 5 * 512 + 7 * 1024 + 4 * 2048)
    expected = (49 * 3 * 64 + 64 + 2 * 64) + stages + 2048 * 1000 + 1000 + moving
    assert models.elu_resnet_50(kernel_initializer="zeros").count_params() == expected
