"""Every recipe on small data, and the parts that the paper specifies."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import data, layers, training
from keras_elu.recipes import autoencoder, cifar, fast_cifar, imagenet, imagenet_resnet, mnist
from keras_elu.training.config import recipe_name
from tests.recipes.small import RECIPES, config


def images(channels=3, size=8, classes=10):
    return data.synthetic(image_shape=(size, size, channels), classes=classes, examples=32)


def compiled(recipe, dataset, steps=10, **changes):
    model, arguments = recipe.build(config(recipe, **changes), dataset, steps)
    model.compile(**arguments)
    return model


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(r, marks=[pytest.mark.slow] * (r is imagenet_resnet), id=recipe_name(r))
        for r in RECIPES
    ],
)
def test_a_step_changes_all_weights_and_the_model_survives_saving(recipe, tmp_path):
    dataset = images()
    # The branches of imagenet_resnet start at zero; the rate of fast_cifar starts at a fifth.
    rate = 0.1 if recipe in (fast_cifar, imagenet_resnet) else 1e-4
    model = compiled(recipe, dataset, learning_rate=rate)
    training, validation, test = recipe.datasets(config(recipe), dataset)
    before = [w.numpy() for w in model.trainable_weights]
    model.fit(training, steps_per_epoch=2, verbose=0, shuffle=False)
    after = [w.numpy() for w in model.trainable_weights]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    assert validation.cardinality() == test.cardinality() == 1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(test, verbose=0) == model.evaluate(test, verbose=0)


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_the_activation_and_its_alpha_are_the_configs(recipe):
    for changes, kind in (
        ({"alpha": 0.5}, layers.ELU),
        ({"activation": "relu"}, keras.layers.ReLU),
    ):
        model, _ = recipe.build(config(recipe, **changes), images(), 10)
        found = [layer for layer in model.layers if layer.name.startswith("activation")]
        assert found
        assert all(type(layer) is kind for layer in found)
        if "alpha" in changes:
            assert {float(layer.get_config()["alpha"]) for layer in found} == {0.5}


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_equal_seeds_give_equal_training_images(recipe):
    def first(seed):
        training, *_ = recipe.datasets(config(recipe, seed=seed), dataset)
        return next(iter(training))[0].numpy()

    dataset = images()
    assert (first(1) == first(1)).all()
    assert (first(1) != first(2)).any()


def test_mnist_is_the_papers():
    model = compiled(mnist, images(channels=1, size=28), learning_rate=0.01)
    assert model.count_params() == 217_354
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.momentum == 0
    assert float(model.optimizer.learning_rate) == np.float32(0.01)
    kernel = model.layers[2].kernel.numpy()  # he_uniform: +-sqrt(6 / fan-in), evenly
    assert kernel.shape == (784, 128)
    assert 0.99 < abs(kernel).max() / np.sqrt(6 / 784) <= 1
    assert np.isclose(kernel.std(), np.sqrt(2 / 784), rtol=0.02)


def test_the_autoencoders_loss_is_half_the_squared_error_summed_over_the_pixels():
    dataset = images(channels=1, size=28)
    model = compiled(autoencoder, dataset)
    _, validation, _ = autoencoder.datasets(config(autoencoder), dataset)
    ((x, target),) = validation.as_numpy_iterator()
    assert (x == target).all()
    error = (model.predict(x, verbose=0) - x) / 255
    expected = np.square(error.astype("float64")).sum() / 2 / len(x)
    assert np.isclose(model.evaluate(validation, verbose=0), expected, rtol=1e-5)


def test_cifar_is_the_papers():
    model = compiled(cifar, images(size=32, classes=100), steps=165_000)
    assert model.count_params() == 1_669_028
    assert model.optimizer.momentum == 0.9
    rates = [
        float(training.learning_rate(config(cifar), 165_000)(step))
        for step in (0, 34_999, 35_000, 84_999, 85_000, 134_999, 135_000, 200_000)
    ]
    assert np.allclose(rates, [0.01, 0.01, 0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005])


def test_cifars_schedule_scales_with_the_steps_and_the_learning_rate():
    rate = training.learning_rate(config(cifar, learning_rate=0.1), 330)
    assert np.allclose([float(rate(step)) for step in (69, 70, 329)], [0.1, 0.05, 0.0005])


def test_cifar_whitens():
    training, *_ = cifar.datasets(config(cifar), images())
    batch = next(iter(training))[0].numpy()
    assert batch.min() < -0.5  # pixels / 255 are not


@pytest.mark.parametrize("network", ["elu_cifar_11", "elu_resnet"])
def test_cifars_networks_have_the_classes_of_the_data(network):
    model, _ = cifar.build(config(cifar, network=network), images(classes=7), 10)
    assert model.output_shape == (None, 7)


def test_imagenet_takes_photographs_of_any_size():
    dataset = images()
    dataset.image_shape = (None, None, 3)
    model, _ = imagenet.build(config(imagenet), dataset, 10)
    assert model.input_shape == (None, None, None, 3)
    resized, _ = imagenet.build(config(imagenet, image_size=40), dataset, 10)
    assert resized.input_shape == (None, 40, 40, 3)
    assert model(tf.zeros((1, 70, 50, 3))).shape == (1, 10)


def test_imagenets_top_five_are_counted_from_a_hundred_classes_on():
    for classes, expected in ((99, 1), (100, 2)):
        _, arguments = imagenet.build(config(imagenet), images(classes=classes), 10)
        assert len(arguments["metrics"]) == expected


def test_the_residual_networks_images_grow_and_training_can_start_at_any_step():
    dataset = images()
    changes = {"first_size": 8, "last_size": 72, "epochs": 6}
    own = config(imagenet_resnet, **changes)
    assert imagenet_resnet.sizes(own, dataset.steps_per_epoch(8)) == {0: 8, 8: 40, 16: 72}

    def batches(start, count):
        return list(imagenet_resnet.datasets(own, dataset, start)[0].take(count))

    whole = batches(0, 18)
    assert [len(x[0]) for x, _ in whole] == [8] * 8 + [40] * 8 + [72] * 2
    assert whole[0][0].dtype == "uint8"
    for start in (7, 8, 15, 17):
        for one, other in zip(batches(start, 1)[0], whole[start], strict=True):
            assert (one.numpy() == other.numpy()).all()
    with pytest.raises(ValueError, match="--first_size 72 is above --last_size 8"):
        imagenet_resnet.sizes(config(imagenet_resnet, first_size=72), 4)


def test_the_residual_network_decays_only_kernels_and_averages_its_weights():
    dataset = images()
    model = compiled(imagenet_resnet, dataset, learning_rate=1.0, activation="parametric_elu")
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    before = [v.numpy() for v in model.trainable_variables]
    optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    kinds = set()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        kernel = variable.name == "kernel"
        wanted = old * (1 - imagenet_resnet.WEIGHT_DECAY) if kernel else old
        np.testing.assert_allclose(variable.numpy(), wanted, rtol=1e-6)
        kinds.add(variable.name)
    assert {"kernel", "bias", "gamma", "beta", "alpha"} <= kinds
    assert optimizer.use_ema


def test_labels_are_smoothed_and_mixed():
    own = {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.3}
    dataset = images()
    training, *_ = imagenet_resnet.datasets(config(imagenet_resnet, **own), dataset)
    labels = next(iter(training))[1].numpy()
    assert labels.shape == (8, 10)
    assert ((labels > 0.01) & (labels < 0.99)).any()
    _, arguments = imagenet_resnet.build(config(imagenet_resnet, **own), dataset, 10)
    assert arguments["loss"].label_smoothing == 0.3
