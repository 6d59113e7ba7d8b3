"""A model with every activation, exported, gives the numbers of the model in every format."""

import contextlib
import importlib.util
import logging

import keras
import numpy as np
import pytest

from keras_elu import layers, schedules

BACKEND = keras.backend.backend()
ACTIVATIONS = {
    "elu": layers.ELU,
    "elu_scaled": lambda: layers.ELU(1.6733),
    "elu_scheduled": lambda: layers.ELU(schedules.Linear(1.0, 2.0, steps=4)),
    "parametric_elu": layers.ParametricELU,
    "pelu": lambda: layers.ParametricELU(scale=1.0),
    "shifted_relu": layers.ShiftedReLU,
}
needs_onnx = pytest.mark.skipif(
    not (importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime")),
    reason="no ONNX converter or runtime",
)
needs_litert = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="no LiteRT"
)


@pytest.fixture(scope="module")
def model():
    """All activations in a row, trained for a while."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,))
    for make in ACTIVATIONS.values():
        x = make()(keras.layers.Dense(6)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 8)), np.ones((8, 3)), batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


def predictions(model, x):
    return keras.ops.convert_to_numpy(model(x))


def onnx_outputs(model, x):
    """Outputs of an ONNX model in a file or in memory."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def litert_outputs(content, x):
    """Outputs of a LiteRT model for each row of `x`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    rows = []
    for row in x:
        interpreter.set_tensor(entry["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result["index"])[0])
    return np.array(rows)


def compiled_nodes(folder):
    """Names of the nodes of a SavedModel that need XLA."""
    import tensorflow as tf

    graph = tf.saved_model.load(folder).signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assert len(nodes) > 10
    return [node.name for node in nodes if node.attr["_XlaMustCompile"].b]


@pytest.mark.tensorflow
@pytest.mark.parametrize("how", ["export", "save"])
def test_a_saved_model_runs_without_xla(model, images, tmp_path, how):
    import tensorflow as tf

    if how == "export":
        model.export(tmp_path, verbose=False)
        loaded = tf.saved_model.load(tmp_path)
        actual = loaded.serve(images)
    else:
        tf.saved_model.save(model, tmp_path)
        loaded = tf.saved_model.load(tmp_path)
        (actual,) = loaded.signatures["serving_default"](tf.constant(images)).values()
    np.testing.assert_allclose(actual, model(images), rtol=1e-5, atol=1e-6)
    assert not compiled_nodes(tmp_path)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_saved_model_is_as_exact_as_the_layer_and_has_its_gradients(name, tmp_path):
    import tensorflow as tf

    x = -np.geomspace(1e-30, 50, 200, dtype="float32")[None]
    model = keras.Sequential([keras.Input((200,)), ACTIVATIONS[name]()])
    tf.saved_model.save(model, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    with tf.GradientTape(persistent=True) as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        (actual,) = loaded.signatures["serving_default"](inputs).values()
        expected = model(inputs)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    slopes = [tape.gradient(y, inputs) for y in (actual, expected)]
    np.testing.assert_allclose(*slopes, rtol=1e-6)


@pytest.mark.tensorflow
@needs_litert
def test_litert(model, images, tmp_path):
    model.export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    actual = litert_outputs((tmp_path / "model.tflite").read_bytes(), images)
    np.testing.assert_allclose(actual, model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
@needs_litert
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_litert_from_a_concrete_function_keeps_small_numbers(name):
    import tensorflow as tf

    layer = ACTIVATIONS[name]()
    x = -np.geomspace(1e-30, 50, 200, dtype="float32")[None]
    expected = predictions(layer, x)
    function = tf.function(lambda t: layer(t), input_signature=[tf.TensorSpec([1, 200])])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    np.testing.assert_allclose(litert_outputs(converter.convert(), x), expected, rtol=2e-6)


@pytest.mark.tensorflow
@needs_litert
@pytest.mark.parametrize(
    "policy",
    [
        "mixed_bfloat16",
        pytest.param("mixed_float16", marks=pytest.mark.slow),
        pytest.param("float64", marks=pytest.mark.slow),
    ],
)
def test_models_of_every_precision_convert(policy, images, tmp_path):
    import tensorflow as tf

    x = inputs = keras.Input((8,))
    for make in (layers.ELU, layers.ParametricELU, layers.ShiftedReLU):
        layer = make(dtype=policy)
        x = layer(keras.layers.Dense(6, dtype=policy)(x))
    model = keras.Model(inputs, x)
    model.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    tolerance = 1e-12 if policy == "float64" else 2e-2
    np.testing.assert_allclose(
        tf.cast(loaded.serve(images), "float64"), tf.cast(model(images), "float64"), tolerance
    )
    model.export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    assert (tmp_path / "model.tflite").stat().st_size > 1000


@pytest.mark.tensorflow
@needs_litert
@pytest.mark.parametrize(
    "alpha",
    [0.5, pytest.param(1.0, marks=pytest.mark.slow), pytest.param(1.6733, marks=pytest.mark.slow)],
)
def test_int8_quantization_costs_no_more_than_with_keras_own_layer(alpha, tmp_path):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")

    def error(layer):
        keras.utils.set_random_seed(0)
        h = inputs = keras.Input((8,))
        for _ in range(3):
            h = layer(alpha)(keras.layers.Dense(32)(h))
        model = keras.Model(inputs, keras.layers.Dense(3)(h))
        model.export(tmp_path / layer.__module__, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / layer.__module__))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x[:200])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        difference = litert_outputs(converter.convert(), x) - predictions(model, x)
        return np.sqrt((difference**2).mean())

    assert error(layers.ELU) <= error(keras.layers.ELU)


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
@needs_onnx
def test_onnx(model, images, tmp_path, backend):
    if backend != BACKEND:
        pytest.skip(f"{backend} only")
    predictions(model, images)
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    actual = onnx_outputs(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(actual, predictions(model, images), rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
@needs_onnx
@pytest.mark.parametrize("how", ["from_keras", "from_function"])
def test_tf2onnx(model, images, how):
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec([None, 8], tf.float32)]
    with quiet():
        if how == "from_keras":
            converted, _ = tf2onnx.convert.from_keras(model, signature)
        else:
            function = tf.function(lambda t: model(t), input_signature=signature)
            converted, _ = tf2onnx.convert.from_function(function, signature)
    actual = onnx_outputs(converted.SerializeToString(), images)
    np.testing.assert_allclose(actual, model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
@needs_onnx
@pytest.mark.parametrize("name", ["elu", "elu_scaled", "elu_scheduled", "parametric_elu", "pelu"])
def test_tf2onnx_keeps_small_numbers(name):
    import tensorflow as tf
    import tf2onnx

    layer = ACTIVATIONS[name]()
    x = -np.geomspace(1e-30, 50, 200, dtype="float32")[None]
    expected = predictions(layer, x)
    signature = [tf.TensorSpec([1, 200], tf.float32)]
    with quiet():
        converted, _ = tf2onnx.convert.from_function(tf.function(lambda t: layer(t)), signature)
    np.testing.assert_allclose(onnx_outputs(converted.SerializeToString(), x), expected, rtol=2e-6)


@contextlib.contextmanager
def quiet():
    """tf2onnx logs at every conversion."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch only")
def test_torch_export(model, images):
    import torch

    x = torch.from_numpy(images)
    predictions(model, images)
    actual = torch.export.export(model, (x,)).module()(x)
    np.testing.assert_allclose(actual.detach(), predictions(model, images), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX only")
def test_jax_export(model, images):
    import jax

    exported = jax.export.export(jax.jit(lambda x: model(x)))(
        jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 8"), "float32")
    )
    loaded = jax.export.deserialize(exported.serialize(vjp_order=1))
    np.testing.assert_allclose(loaded.call(images), model(images), rtol=1e-5, atol=1e-6)
    _, pull_back = jax.vjp(lambda x: model(x), images)
    ones = np.ones((4, 3), "float32")
    np.testing.assert_allclose(
        loaded.vjp().call(images, ones)[0], pull_back(ones)[0], rtol=1e-5, atol=1e-6
    )
