"""What every factory has in common."""

import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import layers, models
from keras_elu.models import units

# Small inputs; the networks are whole but for the widths of the widest.
FACTORIES = {
    "mnist_mlp": (models.mnist_mlp, (4, 4, 1)),
    "mnist_autoencoder": (models.mnist_autoencoder, (4, 4, 1)),
    "elu_cifar_11": (models.elu_cifar_11, (8, 8, 3)),
    "elu_cifar_18": (models.elu_cifar_18, (4, 4, 3)),
    "elu_imagenet_15": (functools.partial(models.elu_imagenet_15, width=1 / 16), (32, 32, 3)),
    "elu_resnet": (functools.partial(models.elu_resnet, depth=8), (8, 8, 3)),
    "elu_resnet_50": (models.elu_resnet_50, (32, 32, 3)),
}
IMAGES = [name for name in FACTORIES if not name.startswith("mnist")]
# The two others share all their code with these.
LIGHT = [name for name in FACTORIES if name not in ("elu_cifar_18", "elu_resnet_50")]
LIGHT_IMAGES = [name for name in IMAGES if name in LIGHT]


@keras.saving.register_keras_serializable("keras_elu_tests")
class Doubled(keras.layers.Layer):
    """An activation of a user's own."""

    def call(self, x):
        return 2 * keras.ops.tanh(x)

    def compute_output_shape(self, input_shape):
        return input_shape


ACTIVATIONS = {
    "a name": ("elu", layers.ELU),
    "the paper's peer": ("shifted_relu", layers.ShiftedReLU),
    "a class": (Doubled, Doubled),
    "a layer": (layers.ELU(alpha=0.5), layers.ELU),
    "a function": (lambda: keras.layers.PReLU(shared_axes=None), keras.layers.PReLU),
}


def _build(name, **kwargs):
    factory, shape = FACTORIES[name]
    return factory(shape, **kwargs)


def _inputs(name, batch=2):
    return np.random.default_rng(0).normal(size=(batch, *FACTORIES[name][1])).astype("float32")


def _walk(layer):
    yield layer
    for inner in getattr(layer, "layers", []):
        yield from _walk(inner)


@pytest.mark.parametrize(
    ("activation", "batch_norm"),
    [*((activation, False) for activation in ACTIVATIONS), ("a name", True)],
)
@pytest.mark.parametrize("name", FACTORIES)
def test_no_foreign_activation_is_left(name, activation, batch_norm):
    argument, kind = ACTIVATIONS[activation]
    model = _build(name, activation=argument, batch_norm=batch_norm, kernel_initializer="zeros")
    passive = (
        keras.layers.InputLayer,
        keras.layers.Flatten,
        keras.layers.Reshape,
        keras.layers.Dropout,
        keras.layers.Add,
        keras.layers.BatchNormalization,
        keras.layers.MaxPooling2D,
        keras.layers.GlobalAveragePooling2D,
        models.SpatialPyramidPooling2D,
    )
    active, weighted = [], []
    for layer in list(_walk(model))[1:]:
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
            assert layer.activation is keras.activations.linear
            weighted.append(layer)
        elif not isinstance(layer, passive):
            assert type(layer) is kind
            active.append(layer)
    # Every layer with weights has one, but the logits, a branch's end and a shortcut.
    adds = sum(isinstance(layer, keras.layers.Add) for layer in model.layers)
    shortcuts = {"elu_resnet": 2, "elu_resnet_50": 4}.get(name, 0)
    assert len(active) == len(weighted) - 1 - adds - shortcuts
    assert len({id(layer) for layer in active}) == len(active)
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert norms == (0 if not batch_norm else (len(active), 1 + adds + shortcuts)[adds > 0])


@pytest.mark.parametrize("name", LIGHT)
def test_batch_normalization_comes_after_the_activation_or_ends_a_branch(name):
    model = _build(name, batch_norm=True)
    for layer in model.layers:
        if isinstance(layer, layers.ELU):
            (source,) = (node.operation for node in layer._inbound_nodes[0].parent_nodes)
            assert isinstance(source, (keras.layers.Dense, keras.layers.Conv2D))
        if isinstance(layer, keras.layers.Add):
            for node in layer._inbound_nodes[0].parent_nodes:
                assert isinstance(
                    node.operation, (keras.layers.BatchNormalization, keras.layers.Add)
                )


@pytest.mark.parametrize("activation", ["elu", "relu", "selu", "shifted_relu", "leaky_relu"])
def test_the_default_initialiser_keeps_the_second_moment_through_the_depth(activation):
    keras.utils.set_random_seed(0)
    shape = (400,)
    factory = functools.partial(models.mnist_mlp, shape, activation=activation)
    x = np.random.default_rng(0).normal(size=(2000, *shape)).astype("float32")
    # The input has the second moment of an activation at the start.
    x *= np.sqrt(models.second_moment(activation))

    def moments(**kwargs):
        model = factory(**kwargs)
        before = [layer.output for layer in model.layers if "dense" in layer.name]
        outputs = keras.Model(model.input, before).predict(x, verbose=0)
        return [float(np.square(y).mean()) for y in outputs]

    kept = moments()
    assert len(kept) == 8
    assert min(kept) > 0.6
    assert max(kept) < 1.5
    # He's initialisation is made for ReLU: it lets what enters an ELU grow.
    if activation == "elu":
        assert moments(kernel_initializer="he_normal")[-1] > 1.4


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", 0.5),
        ("leaky_relu", 0.505),
        ("shifted_relu", 0.7580),
        ("elu", 0.6449),
        (layers.ELU(alpha=0.5), 0.5362),
        (layers.ELU(alpha=2), 1.0798),
        ("selu", 1.0),
        ("gelu", 0.4252),
        ("silu", 0.3558),
        (lambda: keras.layers.PReLU("ones", shared_axes=[1, 2]), 1.0),
        (Doubled, 4 * 0.3943),
    ],
)
def test_second_moments_are_those_of_the_table(activation, expected):
    # Worked out by quadrature elsewhere; tanh: E tanh(z)^2 = 0.3943.
    assert models.second_moment(activation) == pytest.approx(expected, abs=6e-5 * max(1, expected))


def test_a_user_is_told_that_an_activation_cannot_be_initialised_for():
    with pytest.raises(ValueError, match=r"second moment of 0\.0"):
        models.mnist_mlp(activation=lambda: keras.layers.Rescaling(0.0))


def test_the_scale_of_the_default_initialiser_is_the_reciprocal():
    model = models.mnist_mlp()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            config = layer.kernel_initializer.get_config()
            assert config["scale"] == pytest.approx(1.5506, abs=1e-4)
            assert config["mode"] == "fan_in"


@pytest.mark.parametrize(
    "initializer", ["he_uniform", keras.initializers.HeUniform, keras.initializers.HeNormal(seed=3)]
)
def test_layers_of_one_shape_start_with_different_weights(initializer):
    kernels = [
        layer.kernel.numpy()
        for layer in models.mnist_mlp(kernel_initializer=initializer).layers
        if layer.name.startswith("dense")
    ][1:]
    assert len(kernels) == 7
    for kernel in kernels[1:]:
        assert np.abs(kernel - kernels[0]).max() > 0.01


def test_runs_are_paired_by_their_seed():
    weights = []
    for activation in ("elu", "relu"):
        keras.utils.set_random_seed(5)
        weights.append(
            models.elu_cifar_11(
                (4, 4, 3), activation=activation, kernel_initializer="he_normal"
            ).get_weights()
        )
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LIGHT)
def test_a_network_learns_and_survives_saving(name, tmp_path):
    model = _build(name, activation=layers.ELU(alpha=0.5))
    assert model.name.startswith(name)
    x = _inputs(name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_dtype_policies_are_obeyed(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = _build(name)
    finally:
        keras.config.set_dtype_policy(before)
    variable_dtype = "float64" if policy == "float64" else "float32"
    assert {keras.backend.standardize_dtype(w.dtype) for w in model.weights} == {variable_dtype}
    outputs = model(_inputs(name))
    assert outputs.dtype == variable_dtype == model.output.dtype
    assert np.isfinite(outputs).all()
    compute = {layer.compute_dtype for layer in model.layers if isinstance(layer, layers.ELU)}
    assert compute == {policy.removeprefix("mixed_")}


def test_names_do_not_depend_on_what_was_built_before():
    first, second = models.elu_cifar_11(), models.elu_cifar_11()
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert [w.path for w in first.weights] == [w.path for w in second.weights]


@pytest.mark.parametrize("name", LIGHT_IMAGES)
def test_weight_decay_adds_itself_times_the_weight_to_the_gradient(name):
    model = _build(name, weight_decay=0.25)
    with tf.GradientTape() as tape:
        loss = tf.add_n(model.losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        if variable.name == "kernel":
            np.testing.assert_allclose(gradient, 0.25 * variable, rtol=1e-6)
        else:
            assert gradient is None
    assert not _build(name, weight_decay=0).losses


BAD_ARGUMENTS = [
    ({"activation": "rleu"}, "'rleu'"),
    ({"activation": None}, "None"),
    ({"activation": lambda: 3}, "returned 3"),
    ({"input_shape": (4, 0, 1)}, "input_shape="),
    ({"input_shape": (4, 4.5, 1)}, "input_shape="),
    ({"input_shape": 784}, "input_shape="),
    ({"input_shape": ()}, "input_shape="),
    ({"input_shape": (4, 4, None)}, "input_shape="),
    ({"classes": 0}, "classes="),
    ({"classes": 2.5}, "classes="),
    ({"classes": True}, "classes="),
    ({"weight_decay": -1}, "weight_decay="),
    ({"weight_decay": float("nan")}, "weight_decay="),
]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (name, arguments, message)
        for name in FACTORIES
        for arguments, message in BAD_ARGUMENTS
        if set(arguments) <= set(inspect.signature(FACTORIES[name][0]).parameters)
    ],
)
def test_a_bad_argument_gets_one_sentence(name, arguments, message):
    factory, shape = FACTORIES[name]
    with pytest.raises(ValueError, match=message) as error:
        factory(**{"input_shape": shape, **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", IMAGES)
def test_channels_first_is_refused_in_one_sentence(name, monkeypatch):
    monkeypatch.setattr(units.keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ValueError, match="channels last"):
        _build(name)


@pytest.mark.parametrize("name", LIGHT_IMAGES)
def test_images_of_unknown_size_are_taken(name):
    model = FACTORIES[name][0]((None, None, 3))
    assert model.output_shape == (None, model.output.shape[-1])
    for sides in ((33, 40), (9, 1)):
        assert np.isfinite(model(np.ones((1, *sides, 3), "float32"))).all()


@pytest.mark.parametrize("name", ["elu_imagenet_15", "elu_resnet_50"])
def test_preprocessing_takes_pixels_of_a_byte(name):
    factory, shape = FACTORIES[name]
    plain, whole = factory(shape), factory(shape, include_preprocessing=True)
    whole.set_weights(plain.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    standard = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    wanted = keras.ops.convert_to_numpy(plain(standard.astype("float32")))
    found = keras.ops.convert_to_numpy(whole(pixels))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="images with 1 or 3 channels, not 4"):
        factory((8, 8, 4), include_preprocessing=True)
