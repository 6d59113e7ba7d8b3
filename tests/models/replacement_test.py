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
