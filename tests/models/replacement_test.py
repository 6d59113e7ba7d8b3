import gc
import inspect
import warnings

import keras
import numpy as np
import pytest

from keras_elu import layers, models


def _images(count=2, side=32):
    return np.random.default_rng(0).uniform(0, 255, size=(count, side, side, 3)).astype("float32")


def _activations(model):
    """Every activation layer and function of a model, inside out."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _activations(layer)
        elif isinstance(layer, (keras.layers.ReLU, keras.layers.Activation, layers.ELU)):
            yield layer
        elif getattr(layer, "activation", None) not in (None, keras.activations.linear):
            yield layer.activation


@pytest.mark.parametrize(
    ("make", "count"),
    [(keras.applications.ResNet50, 49), (keras.applications.MobileNetV2, 35)],
)
def test_every_relu_of_a_known_network_is_replaced_and_the_weights_are_kept(make, count):
    model = make(input_shape=(32, 32, 3), weights=None, include_top=False)
    new = models.replace_activations(model, layers.ELU(alpha=0.5))
    old_kinds = {type(layer) for layer in _activations(model)}
    assert layers.ELU not in old_kinds
    replaced = list(_activations(new))
    assert {type(layer) for layer in replaced} == {layers.ELU}
    assert {layer.alpha for layer in replaced} == {0.5}
    assert len(replaced) == count == len(list(_activations(model)))
    old_names = [layer.name for layer in model.layers[1:]]
    assert [layer.name for layer in new.layers[1:]] == old_names
    for a, b in zip(model.weights, new.weights, strict=True):
        assert a is not b
        np.testing.assert_array_equal(a, b)
    x = _images() / 255
    assert not np.allclose(model(x), new(x), rtol=0.1, atol=0)


def test_a_small_network_gives_what_it_would_if_built_with_elu(tmp_path):
    def build(activation):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Normalization(mean=1.0, variance=4.0)(inputs)
        x = keras.layers.Conv2D(4, 3, activation=activation)(x)
        x = keras.layers.SeparableConv2D(5, 3, activation=activation)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation(activation)(x)
        x = keras.ops.relu(x) if activation == "relu" else keras.ops.elu(x)
        inner = keras.Input(x.shape[1:])
        y = keras.layers.Conv2DTranspose(5, 3, padding="same", activation=activation)(inner)
        x = keras.Model(inner, keras.layers.add([inner, y]))(x)
        head = keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(7, activation=activation)]
        )
        shared = keras.layers.Dense(7, activation=activation)
        x = shared(shared(head(x)))
        return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))

    model = build("relu")
    new = models.replace_activations(model, "elu")
    expected = build("elu")
    expected.set_weights(model.get_weights())
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(new(x), expected(x), rtol=1e-5, atol=1e-6)
    assert np.abs(new(x) - model(x)).max() > 1e-3
    new.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), new(x))


def test_the_model_itself_stays_as_it_is():
    model = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None)
    x = _images() / 255
    before, config = model(x), model.get_config()
    new = models.replace_activations(model)
    new.set_weights([w + 1 for w in new.get_weights()])
    np.testing.assert_array_equal(model(x), before)
    assert model.get_config() == config


def test_an_adapted_normalization_is_kept():
    normalization = keras.layers.Normalization()
    normalization.adapt(np.array([[1.0], [5.0]]))
    model = keras.Sequential([keras.Input((1,)), normalization, keras.layers.ReLU()])
    new = models.replace_activations(model)
    assert new(np.array([[7.0]])).numpy().tolist() == [[2.0]]


def test_a_sequential_model_stays_sequential_and_compiled():
    model = keras.Sequential(
        [keras.Input((3,), name="here"), keras.layers.Dense(4, activation="relu", name="one")]
    )
    model.compile(keras.optimizers.SGD(0.5), "mse")
    new = models.replace_activations(model)
    assert isinstance(new, keras.Sequential)
    assert [layer.name for layer in new.layers] == ["one", "one_activation"]
    assert new.optimizer is not model.optimizer
    assert float(new.optimizer.learning_rate) == 0.5
    new.fit(np.ones((4, 3)), np.ones((4, 4)), verbose=0)


def test_an_activation_with_weights_is_part_of_the_copy(tmp_path):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU()(x))
    new = models.replace_activations(model, lambda: keras.layers.PReLU("ones"))
    assert len(new.trainable_weights) == 4
    new.set_weights([np.full(w.shape, 0.5) for w in new.get_weights()])
    new.save(tmp_path / "model.keras")
    x = -np.ones((1, 6))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # 6 * -.5 + .5 = -2.5, and half of it twice.
    assert loaded(x).numpy().tolist() == new(x).numpy().tolist() == [[-0.625] * 4]


def test_dtype_policies_and_frozen_layers_are_kept():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, dtype="mixed_bfloat16", trainable=False)(inputs)
    x = keras.layers.ReLU(dtype="mixed_bfloat16")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="mixed_bfloat16", activation="relu")(x))
    new = models.replace_activations(model)
    assert [layer.compute_dtype for layer in new.layers[1:]] == ["bfloat16"] * 4
    assert len(new.trainable_weights) == 2
    model.trainable = False
    assert not models.replace_activations(model).trainable_weights


# One process builds them, and forgets each: many are large.
BIG = [pytest.mark.slow, pytest.mark.xdist_group("keras.applications")]


@pytest.fixture
def forgotten():
    yield
    gc.collect()


QUICK = ("MobileNetV2", "ResNet50V2")
WITH_RELU = [
    "DenseNet121", "DenseNet169", "DenseNet201", "InceptionResNetV2", "InceptionV3", "MobileNet",
    "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small", "NASNetLarge", "NASNetMobile",
    "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2", "VGG16",
    "VGG19", "Xception",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=BIG) for name in WITH_RELU],
)
def test_relu_in_the_place_of_relu_changes_no_output_of_a_known_network(name, forgotten):
    side = 75 if "ception" in name else 32
    model = getattr(keras.applications, name)(
        input_shape=(side, side, 3), weights=None, include_top=False
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        # So that activations are far apart, and pass the bound of ReLU6.
        if len(weight.shape) == 1 and "variance" not in weight.path:
            weight.assign(random.normal(size=weight.shape))
    x = _images(side=side)
    expected = model(x)
    assert np.ptp(expected) > 1
    np.testing.assert_array_equal(models.replace_activations(model, "relu")(x), expected)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=BIG)
        for name, function in sorted(vars(keras.applications).items())
        if inspect.isfunction(function) and name not in WITH_RELU
    ],
)
def test_the_other_known_networks_have_no_relu(name, forgotten):
    model = getattr(keras.applications, name)(
        input_shape=(32, 32, 3), weights=None, include_top=False
    )
    with pytest.raises(ValueError, match="has no ReLU to replace"):
        models.replace_activations(model, "relu")


class _PlusOne(keras.layers.Dense):
    def call(self, x):
        return super().call(x) + 1


class _ReLUPlusOne(keras.layers.ReLU):
    def call(self, x):
        return super().call(x) + 1


class _Renamed(keras.layers.Dense):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(3, activation="relu"),
        keras.layers.Dense(3, activation="relu6"),
        keras.layers.Dense(3, activation=keras.layers.ReLU(max_value=0.1)),
        keras.layers.Dense(3, activation="relu", activity_regularizer="l2"),
        keras.layers.ReLU(activity_regularizer="l1"),
        keras.layers.ReLU(negative_slope=0.3, threshold=0.1),
        keras.layers.Activation("relu", activity_regularizer="l2"),
        keras.layers.Activation("relu6"),
        _Renamed(3, activation="relu"),
        _PlusOne(3, activation="relu"),
        _ReLUPlusOne(),
    ],
    ids=lambda layer: f"{type(layer).__name__}-{layer.name}",
)
@pytest.mark.parametrize("sequential", [False, True])
def test_relu_in_the_place_of_relu_changes_no_output_and_no_loss(layer, sequential):
    if sequential:
        model = keras.Sequential([keras.Input((4,)), layer])
    else:
        inputs = keras.Input((4,))
        model = keras.Model(inputs, layer(layer(keras.layers.Dense(4)(inputs))[:, :1] + inputs))
    new = models.replace_activations(model, "relu")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32") * 9
    np.testing.assert_array_equal(new(x), model(x))
    for each in (model, new):
        each.compile(loss="mse")
    y = np.zeros_like(model(x))
    assert new.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


def test_a_regularizer_of_activities_moves_to_the_new_activation(tmp_path):
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(2, "relu", kernel_initializer="identity", activity_regularizer="l2")
    new = models.replace_activations(keras.Model(inputs, dense(inputs)), layers.ELU(2.0))
    x = np.array([[-1.0, 3.0]])
    # 0.01 * (elu(-1)^2 + 3^2), with elu(-1) = 2 * (1/e - 1), and nothing of the Dense layer.
    expected = 0.01 * ((2 * np.expm1(-1)) ** 2 + 9)
    new.save(tmp_path / "model.keras")
    for model in (new, keras.models.load_model(tmp_path / "model.keras")):
        model(x)
        np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-6)


@pytest.mark.parametrize("own", ["bfloat16", "float16"])
def test_a_function_keeps_the_precision_of_its_tensor(own):
    inputs = keras.Input((3,), dtype=own)
    new = models.replace_activations(keras.Model(inputs, keras.ops.relu(inputs)))
    assert new.layers[-1].compute_dtype == new.outputs[0].dtype == own


@keras.saving.register_keras_serializable("replacement_test")
def _custom_loss(y, prediction):
    return keras.ops.mean((y - prediction) ** 2, axis=-1)


class Named(keras.Model):
    pass


@pytest.mark.parametrize("kind", [keras.Model, Named, keras.Sequential])
def test_a_compiled_model_stays_compiled(kind):
    dense = keras.layers.Dense(3, activation="relu")
    inputs = keras.Input((4,))
    sequential = kind is keras.Sequential
    model = kind([inputs, dense]) if sequential else kind(inputs, dense(inputs))
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(
        keras.optimizers.Adam(rate),
        _custom_loss,
        metrics=["mae"],
        steps_per_execution=2,
        jit_compile=False,
    )
    new = models.replace_activations(model, "relu")
    assert type(new) is type(model)
    assert new.compiled
    assert new.optimizer is not model.optimizer
    assert new.optimizer.get_config() == model.optimizer.get_config()
    assert new.steps_per_execution == 2
    x, y = np.ones((8, 4)), np.zeros((8, 3))
    arguments = {"verbose": 0, "return_dict": True}
    assert new.evaluate(x, y, **arguments) == model.evaluate(x, y, **arguments)
    assert list(new.evaluate(x, y, **arguments)) == ["loss", "mae"]
    new.fit(x, y, verbose=0)


@pytest.mark.tensorflow
@pytest.mark.parametrize("strategy", ["default", "mirrored"])
@pytest.mark.parametrize(
    "kind",
    [
        *("functional", "subclass"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sequential", "stock")),
    ],
)
def test_a_compiled_model_stays_compiled_on_its_replicas(kind, strategy):
    from keras_elu import training

    class OfImages(training.DistributedModel):
        pass

    with training.strategy(strategy).scope():
        inputs, dense = keras.Input((4,)), keras.layers.Dense(3, activation="relu")
        if kind == "sequential":
            model = training.DistributedModel([inputs, dense])
        else:
            classes = {"subclass": OfImages, "stock": keras.Model}
            model = classes.get(kind, training.DistributedModel)(inputs, dense(inputs))
        micro_batches = {} if kind == "stock" else {"micro_batches": 2}
        model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False, **micro_batches)
    new = models.replace_activations(model, "relu")
    assert type(new) is type(model)
    assert new.distribute_strategy.num_replicas_in_sync == (2 if strategy == "mirrored" else 1)
    assert new.get_compile_config() == model.get_compile_config()
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.ones((8, 3))
    fitting = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    assert new.fit(x, y, **fitting).history == model.fit(x, y, **fitting).history
    for a, b in zip(new.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def _compiled_with_a_local_loss():
    model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    model.compile("sgd", lambda y, prediction: keras.ops.mean(y - prediction))
    return model


def _quantized():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras names each layer that stays as it is
        model.quantize("int8")
    return model


class _OwnCall(keras.Model):
    def call(self, x):
        return super().call(x) + 1


def _with_a_call_of_its_own():
    inputs = keras.Input((3,))
    return _OwnCall(inputs, keras.layers.ReLU()(inputs))


class _Subclassed(keras.Model):
    def call(self, x):
        return keras.ops.relu(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_Subclassed, "functional or a built sequential"),
        (lambda: keras.Sequential([keras.layers.ReLU()]), "functional or a built sequential"),
        (lambda: keras.layers.ReLU(), "functional or a built sequential"),
        (lambda: None, "functional or a built sequential"),
        (lambda: models.mnist_mlp(), "no ReLU"),
        (_quantized, "is quantized: replace activations before quantization"),
        (_compiled_with_a_local_loss, "compile arguments of .* cannot be copied"),
        (_with_a_call_of_its_own, "has a `call` of its own"),
        (lambda: keras.Sequential([keras.Input((3,)), _with_a_call_of_its_own()]), "of its own"),
        (
            lambda: keras.Sequential(
                [keras.Input((3,)), _PlusOne(2, activation="relu", name="plus_one")]
            ),
            "'plus_one'",
        ),
        (
            lambda: keras.Sequential([keras.Input((3,)), _ReLUPlusOne(name="plus_one")]),
            "'plus_one'",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((3, 2)), keras.layers.SimpleRNN(2, activation="relu", name="rnn")]
            ),
            "'rnn'",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((3, 2)),
                    keras.layers.TimeDistributed(keras.layers.ReLU(), name="times"),
                ]
            ),
            "'times'",
        ),
    ],
)
def test_a_model_that_cannot_be_changed_gets_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        models.replace_activations(make())
    assert "\n" not in str(error.value)


def test_an_unknown_activation_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="'rleu'"):
        models.replace_activations(model, "rleu")
