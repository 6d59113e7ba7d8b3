"""The published training of each network for CIFAR."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import data, layers, models, training
from keras_elu.data import preprocessing
from keras_elu.optimizers import ScaledSGD
from keras_elu.recipes import cifar, cifar_images, cifar_networks
from keras_elu.training import command_line
from keras_elu.training.config import resolve

NETWORKS = cifar_networks.NETWORKS
# Building these takes gigabytes and seconds.
LARGE = ("elu_cifar_18", "maxout", "fractional_max_pooling")


def config(network, dataset="cifar10", **changes):
    return resolve(cifar, cifar.Config(network=network, dataset=dataset, **changes))


def images(side=32, classes=10, examples=32):
    return data.synthetic(image_shape=(side, side, 3), classes=classes, examples=examples)


@pytest.fixture
def narrow(monkeypatch):
    """Makes the widest network narrow."""
    for name, arguments in {"fractional_max_pooling": {"width": 2}}.items():
        row = dataclasses.replace(NETWORKS[name], arguments=arguments, hundred={})
        monkeypatch.setitem(NETWORKS, name, row)


def test_the_flag_has_the_networks_of_the_table():
    (field,) = [f for f in dataclasses.fields(cifar.Config) if f.name == "network"]
    assert set(field.type.__args__) == set(NETWORKS)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "alexnet_cifar")) for n in NETWORKS]
)
def test_the_table_says_what_is_counted(name, classes):
    row = NETWORKS[name].for_classes(classes)
    arguments = dict(row.arguments) | {"kernel_initializer": "zeros"}
    model = row.make(classes=classes, **arguments)
    assert model.count_params() == row.parameters
    if name == "deeply_supervised":
        model = row.make(classes=classes, companions=1.0, **arguments)
    assert models.multiply_accumulates(model) == row.multiply_accumulates
    assert row.pflop == pytest.approx(models.pflop(model, row.epochs * 50_000), rel=1e-9)


# PFLOP of the published schedules, from the summary of the sources.
PFLOP = {
    "alexnet_cifar": 0.5,
    "deeply_supervised": 27,
    "network_in_network": 17,
    "maxout": 104,
    "all_cnn": 28,
    "highway": 40,
    "fractional_max_pooling": 3607,
    "elu_cifar_11": 15.6,
    "elu_cifar_18": 112,
}


def test_the_published_schedules_cost_what_their_summary_says():
    for name, pflop in PFLOP.items():
        assert NETWORKS[name].pflop == pytest.approx(pflop, rel=0.04), name


def test_help_lists_every_network_with_its_size_and_cost(capsys):
    with pytest.raises(SystemExit):
        command_line.parse(cifar, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "alexnet_cifar: 89,578 or 181,828 parameters, 0.5 or 0.5 PFLOP" in shown
    assert "fractional_max_pooling: 79,247,530 or 12,770,212 parameters, 3,607.0 or" in shown
    assert all(f"{name}: " in shown for name in NETWORKS)


# By network and data set: values of flags.
DEFAULTS = {
    ("elu_cifar_11", "cifar100"): ("elu", 100, 330, 0.01, 0.0005, "whiten", "crop"),
    ("alexnet_cifar", "cifar10"): ("auto", 100, 140, 0.001, 0.004, "mean", "none"),
    ("deeply_supervised", "cifar10"): ("auto", 100, 400, 0.025, 0.0005, "unit_contrast", "crop"),
    ("deeply_supervised", "cifar100"): ("auto", 100, 400, 0.025, 0.0005, "unit_contrast", "none"),
    ("network_in_network", "cifar10"): ("auto", 128, 260, 0.1, 0.0001, "whiten", "crop"),
    ("network_in_network", "cifar100"): ("auto", 128, 260, 0.02, 0.0005, "whiten", "none"),
    ("maxout", "cifar10"): ("auto", 128, 474, 0.17, 0.0, "whiten", "crop"),
    ("all_cnn", "cifar100"): ("auto", 256, 350, 0.05, 0.001, "whiten", "crop"),
    ("highway", "cifar10"): ("auto", 100, 400, 0.025, 0.001, "contrast", "crop"),
    ("fractional_max_pooling", "cifar10"): ("auto", 50, 810, 0.00003, 0.0, "range", "affine"),
    ("fractional_max_pooling", "cifar100"): ("auto", 50, 250, 0.00003, 0.0, "range", "none"),
    ("network_in_network", "digits"): ("auto", 50, 15, 0.1, 0.0001, "whiten", "crop"),
}
FLAGS = (
    *("activation", "batch_size", "epochs", "learning_rate", "weight_decay"),
    *("preprocessing", "augmentation"),
)


@pytest.mark.parametrize(("name", "dataset"), DEFAULTS)
def test_a_network_brings_its_own_defaults_and_flags_override_them(name, dataset):
    own = config(name, dataset)
    values = tuple(getattr(own, flag) for flag in FLAGS)
    assert values == DEFAULTS[name, dataset]
    given = {
        **{"activation": "elu", "batch_size": 7, "epochs": 3, "learning_rate": 0.5},
        **{"weight_decay": 0.0, "preprocessing": "range", "augmentation": "none"},
    }
    changed = config(name, dataset, **given)
    assert {flag: getattr(changed, flag) for flag in FLAGS} == given
    # A config.json repeats a run even if defaults change.
    assert resolve(cifar, own) == own


# Learning rates at epochs of the published schedule.
RATES = {
    "elu_cifar_11": {0: 0.01, 69.9: 0.01, 70: 0.005, 170: 0.0005, 270: 0.00005},
    "alexnet_cifar": {0: 1e-3, 119.9: 1e-3, 120: 1e-4, 130: 1e-5, 139.9: 1e-5},
    "deeply_supervised": {0: 0.025, 339.9: 0.025, 340: 1e-4, 399: 1e-4},
    "network_in_network": {0: 0.1, 199.9: 0.1, 200: 0.01, 230: 0.001},
    "maxout": {0: 0.17, 237: 0.17 * (1 - 0.99 * 237 / 500), 474: 0.17 * (1 - 0.99 * 474 / 500)},
    "all_cnn": {0: 0.05, 200: 0.005, 250: 0.0005, 300: 0.00005},
    "highway": {0: 0.025, 199.9: 0.025, 200: 0.0025, 300: 0.00025, 350: 0.000025},
    "fractional_max_pooling": {
        epoch: 3e-5 * math.exp(-0.005 * epoch) for epoch in (0, 100, 400, 700)
    },
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates_are_the_published_ones_in_proportion_to_the_steps(name):
    own, row = config(name), NETWORKS[name]
    for steps in (row.epochs * 10, row.epochs * 500):
        rate = training.learning_rate(own, steps, row.piecewise)
        for epoch, wanted in RATES[name].items():
            assert float(rate(int(steps * epoch / row.epochs))) == pytest.approx(wanted, rel=0.01)


def test_another_schedule_can_be_chosen():
    own = config("maxout", learning_rate_schedule="cosine")
    assert own.learning_rate_knots is None
    assert own.learning_rate_schedule == "cosine"


def test_companions_fade_in_the_first_quarter():
    weight = cifar_networks.companions(200_000)
    for step in (0, 10_000, 25_000, 49_000):
        assert float(weight(step)) == pytest.approx((1 + step / 10_000) ** -0.75, rel=0.03)
    assert float(weight(50_000)) == float(weight(200_000)) == 0
    for steps in (1, 2, 5, 40):
        assert float(cifar_networks.companions(steps)(0)) == 1


def test_variables_have_their_own_learning_rates():
    flags = {"learning_rate": 1.0, "learning_rate_schedule": "constant"}
    model, arguments = cifar.build(config("network_in_network", **flags), images(8), 100)
    optimizer = arguments["optimizer"]
    assert type(optimizer) is ScaledSGD
    optimizer.build(model.trainable_variables)
    before = [v.numpy() for v in model.trainable_variables]
    optimizer.apply([keras.ops.ones(v.shape) for v in model.trainable_variables])
    steps = {
        v.path: float(np.unique(np.round(old - v.numpy(), 5))[0])
        for v, old in zip(model.trainable_variables, before, strict=True)
    }
    assert steps["conv_1/kernel"] == steps["conv_8/kernel"] == 1
    assert steps["conv_1/bias"] == 2
    assert steps["class_maps/kernel"] == pytest.approx(0.1)
    assert steps["class_maps/bias"] == pytest.approx(0.2)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_factor_scales_the_learning_rate_under_momentum(nesterov):
    optimizer = ScaledSGD({"bias": 3.0}, learning_rate=0.1, momentum=0.9, nesterov=nesterov)
    layer = keras.layers.Dense(1, kernel_initializer="zeros")
    layer.build((None, 1))
    values, velocities = {"kernel": 0.0, "bias": 0.0}, {"kernel": 0.0, "bias": 0.0}
    for gradient in (1.0, -0.5, 2.0):
        optimizer.apply_gradients(
            [(tf.fill(v.shape, gradient), v) for v in layer.trainable_variables]
        )
        for name, rate in (("kernel", 0.1), ("bias", 0.3)):
            velocities[name] = 0.9 * velocities[name] - rate * gradient
            ahead = 0.9 * velocities[name] - rate * gradient
            values[name] += ahead if nesterov else velocities[name]
    assert float(layer.kernel.numpy()[0, 0]) == pytest.approx(values["kernel"], rel=1e-5)
    assert float(layer.bias.numpy()[0]) == pytest.approx(values["bias"], rel=1e-5)


def test_scaled_sgd_is_a_plain_one_without_factors_and_survives_saving():
    optimizer = ScaledSGD({"bias": 2.0}, learning_rate=0.1, momentum=0.9, nesterov=True)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    for factors, message in (({"a": -1.0}, "factor of 'a'"), ({"(": 1.0}, "regular expression")):
        with pytest.raises(ValueError, match=message):
            ScaledSGD(factors)
    weights = []
    for make in (ScaledSGD, keras.optimizers.SGD):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(make(learning_rate=0.1, momentum=0.9), "mse")
        model.fit(np.ones((8, 3)), np.ones((8, 2)), batch_size=2, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "setting",
    [{"clipnorm": 1.0}, {"clipvalue": 1.0}, {"global_clipnorm": 1.0}, {"weight_decay": 0.1}],
)
def test_scaled_sgd_refuses_what_does_not_follow_its_factors(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"{name}=.*: leave out {name}, or the multipliers") as e:
        ScaledSGD({"bias": 2.0}, **setting)
    assert str(e.value).count(".") == 1 + str(setting[name]).count(".")
    ScaledSGD(**setting)  # without factors it is Keras's SGD


def test_scaled_sgd_trains_what_is_left_after_a_layer_was_frozen():
    optimizer = ScaledSGD({"second": 2.0, "first": 3.0}, learning_rate=0.5)
    first, second = (keras.layers.Dense(1, use_bias=False, name=n) for n in ("first", "second"))
    model = keras.Sequential([keras.Input((1,)), first, second])
    model.compile(optimizer, "mse")
    model.set_weights([np.ones((1, 1)), np.ones((1, 1))])
    one, two = np.ones((1, 1)), np.full((1, 1), 2.0)
    model.fit(one, two, verbose=0)  # both derivatives are 2 * (1 - 2) = -2
    assert [w.item() for w in model.get_weights()] == [1 + 3.0, 1 + 2.0]
    first.trainable = False
    model.compile(optimizer, "mse")
    model.fit(one, two, verbose=0)  # 2 * (12 - 2) * 4 = 80
    assert [w.item() for w in model.get_weights()] == [4.0, 3 - 80.0]


def test_an_alpha_needs_an_activation_that_has_one():
    with pytest.raises(ValueError, match="alexnet_cifar has no alpha: give --activation elu"):
        cifar.build(config("alexnet_cifar", alpha=0.5), images(), 10)
    model, _ = cifar.build(config("alexnet_cifar", alpha=0.5, activation="elu"), images(), 10)
    found = [layer.alpha for layer in model.layers if isinstance(layer, layers.ELU)]
    assert found == [0.5] * 3


# Images.


def pixels(dataset):
    ((x, _),) = dataset.evaluation("test", 100, preprocess="none")
    return x.numpy().astype("float64")


def through(kind, augment="none"):
    """Test images, preprocessed, and their pixels."""
    dataset = images(side=6)
    made = cifar_images.preprocessing_layers(kind, augment, dataset)
    batches = dataset.evaluation("test", 100, preprocess="none")
    ((found, _),) = cifar_images.through(batches, made)
    ((train, _),) = dataset.evaluation("train", 100, preprocess="none")
    return found.numpy(), pixels(dataset), train.numpy().astype("float64")


def contrast(x):
    return preprocessing.normalise_contrast(x).reshape(x.shape)


FORMULAS = {
    "mean": lambda x, train: x - train.mean(axis=0),
    "range": lambda x, train: x / 127.5 - 1,
    "contrast": lambda x, train: contrast(x) - contrast(train).mean(axis=0),
    "unit_contrast": lambda x, train: contrast(x) / 8 + 0.5,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_images_are_preprocessed_as_the_formula_says(kind):
    found, x, train = through(kind)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, FORMULAS[kind](x, train), rtol=1e-4, atol=1e-4)


def test_affine_augmentation_has_a_border_of_zeros_to_move_in():
    found, x, _ = through("range", "affine")
    assert found.shape == (len(x), 16, 16, 3)
    np.testing.assert_allclose(found[:, 5:11, 5:11], x / 127.5 - 1, rtol=1e-5, atol=1e-5)
    assert not found[:, :5].any()
    assert not found[:, :, 11:].any()


def test_affine_changes_stay_in_their_bounds_and_follow_the_seed():
    # Marks at a distance of 10 to the right of and below the centre, and in the centre.
    x = np.zeros((200, 41, 41, 1), "float32")
    whole, kinds = [], set()
    for place in ((20, 20), (20, 30), (30, 20)):
        x[:] = 0
        x[:, place[0] - 1 : place[0] + 2, place[1] - 1 : place[1] + 2] = 1
        y = cifar_images.affine(tf.constant(x), tf.constant([3, 4], tf.int64), 5, True).numpy()
        mass = y[..., 0] / y[..., 0].sum(axis=(1, 2), keepdims=True)
        rows, columns = np.mgrid[:41, :41]
        whole.append(np.stack([(mass * columns).sum((1, 2)), (mass * rows).sum((1, 2))], axis=1))
        again = cifar_images.affine(tf.constant(x), tf.constant([3, 4], tf.int64), 5, True)
        np.testing.assert_array_equal(y, again)
    centre, right, down = whole
    across, along = (right - centre) / 10, (down - centre) / 10
    mirrored = across[:, 0] < 0
    assert 60 < mirrored.sum() < 140
    for lengths in (abs(across[:, 0]), along[:, 1]):
        assert 0.78 < lengths.min() < 0.9
        assert 1.1 < lengths.max() < 1.3
    # Sheared or rotated: each at most by .2, but for the stretch.
    bends = np.abs(np.stack([across[:, 1], along[:, 0]]))
    assert bends.max() < 0.2 * 1.3
    kinds = {tuple(bool(b) for b in bend) for bend in (bends > 0.05).T}
    assert kinds == {(False, False), (True, False), (False, True), (True, True)}
    assert np.abs(centre - 20).max() < 5 * 1.3 + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "crop", "affine"])
def test_training_images_are_a_function_of_the_seed_and_the_step(augment):
    dataset = images(side=8)

    def batches(seed, start, count):
        own = config("alexnet_cifar", batch_size=8, seed=seed, augmentation=augment)
        training, *_ = cifar.datasets(own, dataset, start)
        return [x.numpy() for x, _ in training.take(count)]

    whole = batches(1, 0, 6)
    for start in (1, 4, 5):
        np.testing.assert_array_equal(batches(1, start, 1)[0], whole[start])
    assert (batches(2, 0, 1)[0] != whole[0]).any()


@pytest.mark.slow
def test_crops_have_the_border_of_the_network():
    dataset = images(side=32)
    shifts = {}
    for name in ("highway", "all_cnn", "network_in_network"):
        own = config(name, batch_size=32, preprocessing="range")
        largest = 0
        training, *_ = cifar.datasets(own, dataset)
        for x, _ in training.take(6):
            empty = ~np.any(x.numpy(), axis=(2, 3))  # rows of zeros: outside of the image
            largest = max(largest, empty.sum(axis=1).max())
        shifts[name] = largest
    assert shifts == {"highway": 8, "all_cnn": 5, "network_in_network": 4}


SAVED = ("alexnet_cifar", "deeply_supervised", "highway", "network_in_network")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n != "alexnet_cifar"))
        for n in (*SAVED, "maxout", "all_cnn", "fractional_max_pooling")
    ],
)
def test_the_saved_model_takes_pixels_and_has_no_companions(name, narrow, tmp_path):
    keras.utils.set_random_seed(0)
    dataset = images(side=10)
    own = config(name, batch_size=8)
    network, arguments = cifar.build(own, dataset, 100)
    network.compile(**arguments)
    batches, _, test = cifar.datasets(own, dataset)
    network.fit(batches, steps_per_epoch=2, verbose=0, shuffle=False)
    saved = cifar.self_contained(own, dataset, network)
    saved.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    ((x, _),) = test
    expected = network(x)
    assert expected.shape == (4, 10)
    found = loaded(pixels(dataset).astype("uint8"))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    assert not any("companion" in weight.path for weight in loaded.weights)
    assert len(loaded.class_names) == 10
