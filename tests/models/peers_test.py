"""The networks that the paper compares its own with."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import layers, models, schedules

# Small images; the networks are whole but for the widest.
NARROW = functools.partial(models.fractional_max_pooling, width=2)
FACTORIES = {
    "alexnet_cifar": (models.alexnet_cifar, (8, 8, 3)),
    "network_in_network": (models.network_in_network, (8, 8, 3)),
    "deeply_supervised": (models.deeply_supervised, (8, 8, 3)),
    "companions": (functools.partial(models.deeply_supervised, companions=0.5), (8, 8, 3)),
    "maxout": (models.maxout, (8, 8, 3)),
    "all_cnn": (models.all_cnn, (9, 9, 3)),
    "highway": (models.highway, (8, 8, 3)),
    "fractional_max_pooling": (NARROW, (8, 8, 3)),
}
FIXED = ("alexnet_cifar", "companions", "maxout", "fractional_max_pooling")
PUBLISHED = [name for name in FACTORIES if name != "companions"]


def build(name, **arguments):
    factory, shape = FACTORIES[name]
    return factory(shape, **arguments)


def images(name, count=3):
    return np.random.default_rng(0).normal(size=(count, *FACTORIES[name][1])).astype("float32")


def weighted(model):
    kinds = (keras.layers.Dense, keras.layers.Conv2D)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


# The others are in the slow half: they share their code with these, and take seconds each.
LIGHT = ("alexnet_cifar",)


def light(names, fast=LIGHT):
    """The parameters of a test, slow unless they are among the fast ones."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n not in fast)) for n in names]


# Parameters and arithmetic, written out from the tables of the sources.


def conv(field, before, filters):
    return field * field * before * filters + filters


def trunk(classes):
    return (
        (conv(5, 3, 192) + conv(1, 192, 160) + conv(1, 160, 96))
        + (conv(5, 96, 192) + 2 * conv(1, 192, 192))
        + (conv(3, 192, 192) + conv(1, 192, 192) + conv(1, 192, classes))
    )


def highways(before, filters, count):
    return conv(3, before, filters) + count * 2 * conv(3, filters, filters)


def fractional(width, classes):
    first = conv(2, 3, width)
    others = sum(conv(2, width * (i - 1), width * i) for i in range(2, 14))
    return first + others + conv(1, 13 * width, 14 * width) + 14 * width * classes + classes


PARAMETERS = [
    ("alexnet_cifar", 10, 89_578, conv(5, 3, 32) + conv(5, 32, 32) + conv(5, 32, 64) + 10_250),
    ("alexnet_cifar", 100, 181_828, conv(5, 3, 32) + conv(5, 32, 32) + conv(5, 32, 64) + 102_500),
    ("network_in_network", 10, 966_986, trunk(10)),
    ("network_in_network", 100, 984_356, trunk(100)),
    ("deeply_supervised", 10, 966_986, trunk(10)),
    ("deeply_supervised", 100, 984_356, trunk(100)),
    (
        "maxout",
        10,
        16_247_830,
        conv(8, 3, 192) + conv(8, 96, 384) + conv(5, 192, 384) + (4800 * 2500 + 2500) + 5_010,
    ),
    (
        "maxout",
        100,
        16_292_920,
        conv(8, 3, 192) + conv(8, 96, 384) + conv(5, 192, 384) + (4800 * 2500 + 2500) + 50_100,
    ),
    (
        "all_cnn",
        10,
        1_369_738,
        (conv(3, 3, 96) + 2 * conv(3, 96, 96))
        + (conv(3, 96, 192) + 2 * conv(3, 192, 192))
        + (conv(3, 192, 192) + conv(1, 192, 192) + conv(1, 192, 10)),
    ),
    (
        "all_cnn",
        100,
        1_387_108,
        (conv(3, 3, 96) + 2 * conv(3, 96, 96))
        + (conv(3, 96, 192) + 2 * conv(3, 192, 192))
        + (conv(3, 192, 192) + conv(1, 192, 192) + conv(1, 192, 100)),
    ),
    (
        "highway",
        10,
        2_256_838,
        highways(3, 32, 4) + highways(32, 80, 5) + highways(80, 128, 5) + 12_900 + 1_010,
    ),
    (
        "highway",
        100,
        2_265_928,
        highways(3, 32, 4) + highways(32, 80, 5) + highways(80, 128, 5) + 12_900 + 10_100,
    ),
]


@pytest.mark.parametrize(("name", "classes", "published", "total"), PARAMETERS)
def test_parameters_are_the_published_ones(name, classes, published, total):
    assert total == published
    model = getattr(models, name)(classes=classes, kernel_initializer="zeros")
    assert model.count_params() == published


def test_narrow_fractional_pooling_has_the_parameters_of_its_table():
    assert models.fractional_max_pooling(width=3, classes=7).count_params() == fractional(3, 7)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "classes", "total"), [(160, 10, 79.25), (64, 100, 12.77)])
def test_fractional_pooling_has_the_published_parameters(width, classes, total):
    model = models.fractional_max_pooling(classes=classes, width=width, kernel_initializer="zeros")
    assert model.count_params() == fractional(width, classes)
    assert model.count_params() / 1e6 == pytest.approx(total, abs=0.005)


def test_companions_add_the_published_parameters():
    heads = {
        classes: sum(side * side * 192 * classes + classes for side in (32, 16, 8))
        for classes in (10, 100)
    }
    assert heads == {10: 2_580_510, 100: 25_805_100}
    model = models.deeply_supervised(companions=1.0, kernel_initializer="zeros")
    assert model.count_params() == trunk(10) + heads[10]
    assert models.without_companions(model).count_params() == trunk(10)


# Multiply-accumulates: positions of the output, times inputs and filters of the kernel.
ARITHMETIC = {
    "alexnet_cifar": 32**2 * 75 * 32 + 16**2 * 800 * 32 + 8**2 * 800 * 64 + 1024 * 10,
    "network_in_network": (
        32**2 * (75 * 192 + 192 * 160 + 160 * 96)
        + 16**2 * (25 * 96 * 192 + 192 * 192 + 192 * 192)
        + 8**2 * (9 * 192 * 192 + 192 * 192 + 192 * 10)
    ),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_counted_as_by_hand(name):
    model = getattr(models, name)(kernel_initializer="zeros")
    assert models.multiply_accumulates(model) == ARITHMETIC[name]
    assert models.pflop(model, 7e6) == pytest.approx(6 * ARITHMETIC[name] * 7e6 / 1e15)


def test_arithmetic_includes_companions_nested_models_and_depthwise_kernels():
    model = build("companions")
    alone = models.multiply_accumulates(models.without_companions(model))
    heads = (8**2 + 4**2 + 2**2) * 192 * 10
    assert models.multiply_accumulates(model) == alone + heads
    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.DepthwiseConv2D(3)])
    inputs = keras.Input((6, 6, 3))
    outputs = keras.layers.Dense(5)(inner(inputs))
    assert models.multiply_accumulates(keras.Model(inputs, outputs)) == 16 * 27 + 16 * 3 * 5


def test_arithmetic_of_separable_convolutions_and_of_channels_first():
    x = inputs = keras.Input((9, 7, 4))
    x = keras.layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2)(x)
    separable = keras.Model(inputs, x)
    assert models.multiply_accumulates(separable) == 4 * 3 * (9 * 4 * 2 + 8 * 5)
    inputs = keras.Input((9, 4))
    sequence = keras.Model(inputs, keras.layers.SeparableConv1D(5, 3)(inputs))
    assert models.multiply_accumulates(sequence) == 7 * (3 * 4 + 4 * 5)
    first = {"data_format": "channels_first"}
    x = inputs = keras.Input((4, 9, 7))
    x = keras.layers.Conv2D(6, 3, **first)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", **first)(x)
    x = keras.layers.SeparableConv2D(5, 3, **first)(x)
    counted = models.multiply_accumulates(keras.Model(inputs, x))
    assert counted == 7 * 5 * (9 * 4 * 6 + 9 * 6) + 5 * 3 * (9 * 6 + 6 * 5)


def test_arithmetic_that_is_not_known_is_refused():
    inputs = keras.Input((None, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    with pytest.raises(ValueError, match="known size"):
        models.multiply_accumulates(keras.Model(inputs, x))
    inputs, shared = keras.Input((3,)), keras.layers.Dense(3)
    with pytest.raises(ValueError, match="is called 2 times"):
        models.multiply_accumulates(keras.Model(inputs, shared(shared(inputs))))
    inputs = keras.Input((4, 3))
    with pytest.raises(ValueError, match="is not known"):
        models.multiply_accumulates(keras.Model(inputs, keras.layers.LSTM(2)(inputs)))


# What one network alone has.


def sides(model):
    found = [layer.output.shape[1] for layer in model.layers if len(layer.output.shape) == 4]
    return [side for i, side in enumerate(found) if i == 0 or side != found[i - 1]]


FRACTIONAL = [(94, 93), (74, 73), (58, 57), (45, 44), (35, 34), (27, 26), (21, 20), (16, 15)]
SIDES = {
    "alexnet_cifar": [32, 16, 8, 4],
    "network_in_network": [32, 16, 8],
    "deeply_supervised": [32, 16, 8],
    "maxout": [32, 40, 33, 16, 22, 15, 7, 13, 9, 5],
    "all_cnn": [32, 16, 8, 6],
    "highway": [32, 16, 8],
    "fractional_max_pooling": [
        32,
        *(side for pair in FRACTIONAL for side in pair),
        *(12, 11, 9, 8, 6, 5, 4, 3, 2, 1),
    ],
}


@pytest.mark.parametrize("name", light(SIDES, fast=("alexnet_cifar", "maxout", "all_cnn")))
def test_maps_have_the_published_sides(name):
    factory = NARROW if name == "fractional_max_pooling" else getattr(models, name)
    assert sides(factory(kernel_initializer="zeros")) == SIDES[name]


RATES = {
    "alexnet_cifar": [],
    "network_in_network": [0.5, 0.5],
    "deeply_supervised": [0.5, 0.5],
    "maxout": [0.2, 0.5, 0.5, 0.5, 0.5],
    "all_cnn": [0.2, 0.5, 0.5],
    "highway": [0.2] * 4,
    "fractional_max_pooling": [0.5 * i / 14 for i in range(1, 15)],
}


@pytest.mark.parametrize("name", light(RATES, fast=("maxout", "all_cnn")))
def test_dropout_has_the_published_rates(name):
    rates = [layer.rate for layer in build(name).layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == pytest.approx(RATES[name])


# Standard deviations of the kernels; a fan-in's is that of a variance of 1 / fan-in.
STARTS = {
    "alexnet_cifar": [1e-4, 0.01, 0.01, 0.01],
    "network_in_network": [0.05] * 9,
    "deeply_supervised": [0.05] * 9,
    "maxout": [0.005 / 3**0.5] * 5,
    "all_cnn": ["fan-in"] * 9,
    "highway": ["fan-in"] * 33,
}


@pytest.mark.parametrize("name", light(STARTS, fast=("alexnet_cifar", "maxout")))
def test_weights_start_as_in_the_source(name):
    keras.utils.set_random_seed(0)
    found = []
    for layer in weighted(build(name, classes=30)):
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        found.append((kernel.std(), np.prod(kernel.shape[:-1]) ** -0.5))
    for (deviation, fan_in), wanted in zip(found, STARTS[name], strict=True):
        assert deviation == pytest.approx(fan_in if wanted == "fan-in" else wanted, rel=0.1)


def test_network_in_network_starts_otherwise_with_a_hundred_classes():
    model = build("network_in_network", classes=100)
    found = [float(keras.ops.std(layer.kernel)) for layer in weighted(model)]
    assert found == pytest.approx([0.001, 0.01, 0.01, *[0.05] * 6], rel=0.1)


@pytest.mark.slow
def test_gates_start_closed_and_are_sigmoids_whatever_the_activation():
    model = build("highway", activation="elu")
    gates = [layer for layer in model.layers if layer.name.startswith("gate")]
    assert len(gates) == 14
    assert {float(b) for layer in gates for b in layer.bias.numpy()} == {-2.0}
    (x,) = model.get_layer("gate_1")._inbound_nodes[0].input_tensors
    names = ("activation_2", "gate_1", "highway_1")
    inner = keras.Model(model.input, [x, *(model.get_layer(name).output for name in names)])
    x, transformed, gate, y = map(np.asarray, inner(images("highway")))
    t = 1 / (1 + np.exp(-gate))
    np.testing.assert_allclose(y, t * transformed + (1 - t) * x, rtol=1e-5, atol=1e-6)


DECAYS = {"alexnet_cifar": 250, "highway": 10}


@pytest.mark.parametrize("name", light(PUBLISHED))
def test_weight_decay_adds_itself_times_the_weight_to_the_gradient(name):
    model = build(name, weight_decay=0.25)
    with tf.GradientTape() as tape:
        loss = tf.add_n(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        if variable.name == "kernel":
            factor = DECAYS.get(name, 1) if "logits" in variable.path else 1
            np.testing.assert_allclose(gradient, factor * 0.25 * variable, rtol=1e-6)
        else:
            assert gradient is None
    assert not build(name, weight_decay=0).losses


def test_alexnet_pools_before_its_first_activation_and_after_the_others():
    names = [layer.name for layer in build("alexnet_cifar").layers[1:]]
    assert names == [
        *("conv_1", "pool_1", "activation_1", "response_norm_1"),
        *("conv_2", "activation_2", "pool_2", "response_norm_2"),
        *("conv_3", "activation_3", "pool_3", "flatten", "logits"),
    ]
    pools = [build("alexnet_cifar").get_layer(f"pool_{i}") for i in (1, 2, 3)]
    kinds = [keras.layers.MaxPooling2D, *[keras.layers.AveragePooling2D] * 2]
    assert [type(pool) for pool in pools] == kinds


@pytest.mark.slow
def test_maxout_limits_the_norm_of_each_unit():
    model = build("maxout", kernel_initializer="ones")
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    model.train_on_batch(images("maxout"), np.zeros((3, 10)))
    norms = []
    for layer in weighted(model):
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        norms.append(np.sqrt((kernel.reshape(-1, kernel.shape[-1]) ** 2).sum(axis=0)))
    limits = (0.9, 1.9365, 1.9365, 1.9, 1.9365)
    for norm, limit in zip(norms, limits, strict=True):
        np.testing.assert_allclose(norm, limit, rtol=1e-4)


# What all have in common.


@pytest.mark.parametrize("name", light(FACTORIES))
def test_the_activation_is_the_original_or_the_one_that_is_given(name):
    originals = {
        "maxout": layers.Maxout,
        "fractional_max_pooling": keras.layers.LeakyReLU,
    }
    passive = (
        *(keras.layers.InputLayer, keras.layers.Conv2D, keras.layers.Dense, keras.layers.Flatten),
        *(keras.layers.Dropout, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D),
        *(keras.layers.GlobalAveragePooling2D, keras.layers.ZeroPadding2D),
        *(layers.CeilMaxPooling2D, layers.FractionalMaxPooling2D, layers.HighwayGate),
        layers.ResponseNormalization2D,
    )
    for activation in (None, "elu", layers.ELU(alpha=0.5), keras.layers.PReLU):
        arguments = {} if activation is None else {"activation": activation}
        wanted = {None: originals.get(name, keras.layers.ReLU)}.get(activation, layers.ELU)
        wanted = keras.layers.PReLU if activation is keras.layers.PReLU else wanted
        model = build(name, kernel_initializer="zeros", **arguments)
        active = [layer for layer in model.layers if not isinstance(layer, passive)]
        active = [layer for layer in active if layer.name != "companions"]
        assert {type(layer) for layer in active} == {wanted}
        assert all(layer.name.startswith("activation") for layer in active)
        assert all(layer.activation is keras.activations.linear for layer in weighted(model))
        assert len(active) == {"maxout": 4, "alexnet_cifar": 3, "highway": 18}.get(
            name, 14 if "fractional" in name else 9 - ("supervised" in name or name == "companions")
        )


@pytest.mark.parametrize("name", light(name for name in PUBLISHED if name != "maxout"))
def test_another_activation_scales_the_kernels_for_itself(name):
    original = weighted(build(name))[1].kernel_initializer.get_config()
    scaled = weighted(build(name, activation="elu"))[1].kernel_initializer.get_config()
    assert scaled["scale"] == pytest.approx(1.5506, abs=1e-4)
    assert original != scaled
    given = build(name, kernel_initializer="he_uniform")
    kinds = {type(layer.kernel_initializer).__name__ for layer in weighted(given)}
    assert kinds - {"VarianceScaling"} == {"HeUniform"}
    assert ("VarianceScaling" in kinds) == (name == "highway")  # of its gates


@pytest.mark.parametrize("name", light(FACTORIES))
def test_a_network_learns_and_survives_saving(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = build(name, activation="elu")
    x = images(name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.count_params() == model.count_params()


@pytest.mark.parametrize("name", light(FACTORIES))
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_logits_have_the_dtype_of_the_variables(name, policy):
    keras.config.set_dtype_policy(policy)
    model = build(name)
    wanted = "float64" if policy == "float64" else "float32"
    for training in (False, True):
        outputs = model(images(name), training=training)
        assert outputs.dtype == wanted == model.output.dtype
        assert np.isfinite(outputs).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORIES)
def test_xla_gives_the_same(name):
    model = build(name, kernel_initializer="he_normal", activation="elu")
    x = tf.constant(images(name))
    compiled = tf.function(model, jit_compile=True)
    np.testing.assert_allclose(compiled(x), model(x), rtol=1e-3, atol=1e-4)
    assert np.isfinite(compiled(x, training=True)).all()


@pytest.mark.parametrize("name", light(name for name in FACTORIES if name not in FIXED))
def test_images_of_unknown_size_are_taken(name):
    model = FACTORIES[name][0]((None, None, 3))
    assert model.output_shape == (None, 10)
    assert np.isfinite(model(np.ones((1, 21, 13, 3), "float32"))).all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        *(
            (name, arguments, message)
            for name in FACTORIES
            for arguments, message in [
                ({"activation": "rleu"}, "'rleu'"),
                ({"classes": 0}, "classes="),
                ({"weight_decay": -1}, "weight_decay="),
                ({"input_shape": (8, 0, 3)}, "input_shape="),
            ]
        ),
        *((name, {"input_shape": (None, 8, 3)}, "positive whole numbers.$") for name in FIXED),
        ("all_cnn", {"input_shape": (8, 32, 3)}, "at least 9"),
        ("fractional_max_pooling", {"input_shape": (95, 8, 3)}, "up to 94"),
        ("fractional_max_pooling", {"width": 0}, "width=0"),
        ("companions", {"companions": -1.0}, "weight must be a positive"),
    ],
)
def test_a_bad_argument_gets_one_sentence(name, arguments, message):
    factory, shape = FACTORIES[name]
    assert set(arguments) <= set(inspect.signature(factory).parameters)
    with pytest.raises(ValueError, match=message) as error:
        factory(**{"input_shape": shape, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", light(PUBLISHED))
def test_replacing_the_activations_gives_what_building_with_them_gives(name):
    model = build(name, kernel_initializer="he_normal")
    if name in ("maxout", "fractional_max_pooling"):
        with pytest.raises(ValueError, match="has no ReLU to replace"):
            models.replace_activations(model, "elu")
        return
    new, wanted = models.replace_activations(model, "elu"), build(name, activation="elu")
    wanted.set_weights(model.get_weights())
    np.testing.assert_array_equal(new(images(name)), wanted(images(name)))
    assert not np.array_equal(new(images(name)), model(images(name)))


# Companions.


def hinge(label, scores):
    signs = np.where(np.arange(len(scores)) == label, 1, -1)
    return (np.maximum(0, 1 - signs * scores) ** 2).sum()


def test_the_squared_hinge_is_one_class_against_the_rest():
    scores = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.array([0, 3, 1, 1, 2])
    with tf.GradientTape() as tape:
        x = tf.constant(scores)
        tape.watch(x)
        found = models.squared_hinge(labels[:, None], x)
    np.testing.assert_allclose(found, [*map(hinge, labels, scores)], rtol=1e-12)
    signs = np.where(np.arange(4) == labels[:, None], 1, -1)
    expected = -2 * signs * np.maximum(0, 1 - signs * scores)
    np.testing.assert_allclose(tape.gradient(found, x), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["hinge", "entropy"])
def test_training_adds_the_weighted_losses_of_the_companions(kind):
    keras.utils.set_random_seed(0)
    of = {
        "hinge": models.squared_hinge,
        "entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }[kind]
    model = build("companions", kernel_initializer="he_normal", weight_decay=0)
    labels = np.array([1, 5, 0])
    outputs = np.asarray(model(images("companions"), training=True), "float64")
    assert outputs.shape == (3, 5, 10)
    np.testing.assert_array_equal(outputs[:, 4], 0.5)

    def entropy(label, scores):
        return np.log(np.exp(scores).sum()) - scores[label]

    one = hinge if kind == "hinge" else entropy
    each = [
        [one(y, scores) for scores in rows[:4]] for y, rows in zip(labels, outputs, strict=True)
    ]
    expected = np.mean([row[0] + 0.5 * sum(row[1:]) for row in each])
    loss = models.CompanionLoss(of)
    assert float(loss(labels, outputs)) == pytest.approx(expected, rel=1e-6)
    assert float(loss(labels, outputs[:, 0])) == pytest.approx(np.mean([row[0] for row in each]))
    right = models.companion_accuracy(labels, outputs)
    np.testing.assert_array_equal(right, outputs[:, 0].argmax(-1) == labels)


@pytest.mark.slow
def test_companions_are_linear_in_what_enters_the_activations():
    keras.utils.set_random_seed(0)
    model = build("companions")
    companions = model.get_layer("companions")
    assert len(companions.companions) == 3
    maps = [model.get_layer(name).output for name in ("conv_1", "conv_4", "conv_7")]
    # Without dropout, whose masks two calls would not share.
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    x = images("companions")
    hidden = keras.Model(model.input, maps)(x)
    outputs = np.asarray(model(x, training=True))
    for i, (layer, z) in enumerate(zip(companions.companions, hidden, strict=True), start=1):
        expected = np.reshape(z, (3, -1)) @ layer.kernel.numpy() + layer.bias.numpy()
        np.testing.assert_allclose(outputs[:, i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_weight_of_the_companions_follows_its_schedule_in_training_only():
    schedule = schedules.Linear(1.0, 0.0, 2)
    model = models.deeply_supervised((8, 8, 3), companions=schedule)
    x, weights = images("companions"), []
    for _ in range(4):
        weights.append(float(model(x, training=True)[0, 4, 0]))
        assert model(x).shape == (3, 10)
    assert weights == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.slow
def test_the_network_without_companions_is_the_deeply_supervised_one(tmp_path):
    model = build("companions")
    alone = models.without_companions(model)
    plain = build("deeply_supervised")
    assert [w.path for w in alone.weights] == [w.path for w in plain.weights]
    plain.set_weights(alone.get_weights())
    np.testing.assert_array_equal(plain(images("companions")), model(images("companions")))
    alone.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").count_params() == plain.count_params()
    with pytest.raises(ValueError, match="has no companions"):
        models.without_companions(plain)


@pytest.mark.slow
def test_a_compiled_model_with_companions_is_saved_with_its_loss(tmp_path):
    model = build("companions")
    model.compile(
        "sgd",
        models.CompanionLoss(models.squared_hinge),
        metrics=[models.companion_accuracy],
    )
    x, y = images("companions"), np.array([1, 5, 0])
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


def test_contrast_normalization_is_that_of_the_data():
    from keras_elu.data import preprocessing

    x = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    x[1] = 7
    found = models.ContrastNormalization()(x)
    expected = preprocessing.normalise_contrast(x).reshape(x.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="scale=0"):
        models.ContrastNormalization(0)
