"""A model with ELU, exported, gives the numbers of the model in every format."""

import importlib.util

import keras
import numpy as np
import pytest

from keras_elu import layers, schedules

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,))
    for activation in (
        layers.ELU(1.6733),
        layers.ELU(schedules.Linear(1.0, 2.0, steps=4)),
        layers.ParametricELU(),
        layers.ParametricELU(scale=1.0),
        layers.ShiftedReLU(),
    ):
        x = activation(keras.layers.Dense(6)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 8)), np.ones((8, 3)), batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


def operations(graph_def):
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    return nodes


def test_saved_model(model, images, tmp_path):
    import tensorflow as tf

    model.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    np.testing.assert_allclose(loaded.serve(images), model(images), rtol=1e-5, atol=1e-6)
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    compiled = [n.name for n in operations(graph) if n.attr["_XlaMustCompile"].b]
    assert not compiled, "runtimes without XLA could not run it"


@pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="no LiteRT")
def test_litert(model, images, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(entry["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], images)
    interpreter.invoke()
    actual = interpreter.get_tensor(result["index"])
    np.testing.assert_allclose(actual, model(images), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(
    not (importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime")),
    reason="no ONNX converter or runtime",
)
def test_onnx(model, images, tmp_path):
    import onnxruntime

    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (actual,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(actual, model(images), rtol=1e-5, atol=1e-6)
