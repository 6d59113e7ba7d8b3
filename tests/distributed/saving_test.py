"""Every way of saving and loading in Keras: the result is a model with equal outputs."""

import copy
import functools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from right_or_refused import slow_but

from keras_elu import training

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 4)).astype("float32")
Y = RANDOM.normal(size=(8, 2)).astype("float32")
DistributedModel = training.DistributedModel


@keras.saving.register_keras_serializable("saving_test")
class Registered(DistributedModel):
    """A subclass with its own arguments."""

    def __init__(self, units=3, **keywords):
        super().__init__(**keywords)
        self.units = units
        self.hidden = layers.Dense(units, activation="tanh")
        self.normalised = layers.BatchNormalization()
        self.out = layers.Dense(2)

    def call(self, x, training=False):
        return self.out(self.normalised(self.hidden(x), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def functional():
    inputs = keras.Input((4,))
    x = layers.BatchNormalization()(layers.Dense(3, activation="tanh")(inputs))
    return DistributedModel(inputs, layers.Dense(2)(x))


def sequential():
    return DistributedModel([keras.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(2)])


def nested():
    inner = keras.Input((4,))
    inner = DistributedModel(inner, layers.Dense(4, "tanh")(inner), name="inner")
    middle = keras.Input((4,))
    middle = DistributedModel(middle, layers.BatchNormalization()(inner(middle)), name="middle")
    inputs = keras.Input((4,))
    return DistributedModel(inputs, layers.Dense(2)(middle(inputs)))


def in_a_plain_model():
    inner = functional()
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(2)(inner(inputs)))


def in_a_sequential():
    return keras.Sequential([keras.Input((4,)), functional(), layers.Dense(2)])


def named():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    x = layers.Dense(3)(inputs["a"]) + layers.Dense(3)(inputs["b"])
    return DistributedModel(inputs, {"out": layers.Dense(2, name="out")(x)})


def registered():
    model = Registered(5)
    model.build((None, 4))
    return model


MODELS = {
    "functional": functional,
    "sequential": sequential,
    "nested": nested,
    "in a plain model": in_a_plain_model,
    "in a Sequential": in_a_sequential,
    "named": named,
    "registered subclass": registered,
}
OF_STOCK_LAYERS = [name for name in MODELS if name != "registered subclass"]


def given(name):
    return {"a": X, "b": X + 1} if name == "named" else X


@functools.cache
def trained(name, of=None):
    """Returns a trained model, its outputs and its evaluation; a different model for each `of`."""
    keras.utils.set_random_seed(1)
    with training.strategy("default").scope():
        model = MODELS[name]()
        compile_(model)
    y = {"out": Y} if name == "named" else Y
    model.fit(given(name), y, batch_size=4, verbose=0, shuffle=False)
    return model, outputs(model, name), model.evaluate(given(name), y, verbose=0)


def compile_(model):
    """Compiles with objects, as stock Keras cannot load an HDF5 file whose loss is a string."""
    loss, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanAbsoluteError()
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=[metric], jit_compile=False)


def outputs(model, name):
    result = model(given(name), training=False)
    return keras.ops.convert_to_numpy(result["out"] if isinstance(result, dict) else result)


# Each way takes a model and a path without a suffix, and returns the loaded model. The first ways
# keep the optimizer; the others keep only the network.


def built(model):
    if not model.built:
        model(X)


def keras_file(model, path):
    model.save(f"{path}.keras")
    return keras.saving.load_model(f"{path}.keras")


def function(model, path):
    keras.saving.save_model(model, f"{path}.keras")
    return keras.saving.load_model(f"{path}.keras")


def folder(model, path):
    model.save(f"{path}_folder", zipped=False)
    return keras.saving.load_model(f"{path}_folder")


def h5_file(model, path):
    model.save(f"{path}.h5")
    return keras.saving.load_model(f"{path}.h5")


def pickled(model, path):
    return pickle.loads(pickle.dumps(model))


def deep_copy(model, path):
    return copy.deepcopy(model)


def checkpoint_callback(model, path):
    callback = keras.callbacks.ModelCheckpoint(f"{path}.keras")
    callback.set_model(model)
    callback.on_epoch_end(0, {"loss": 1.0})
    return keras.saving.load_model(f"{path}.keras")


def not_compiled(model, path):
    model.save(f"{path}.keras")
    loaded = keras.saving.load_model(f"{path}.keras", compile=False)
    assert not loaded.compiled
    return loaded


def not_compiled_h5(model, path):
    model.save(f"{path}.h5")
    return keras.saving.load_model(f"{path}.h5", compile=False)


def weights_file(model, path):
    model.save_weights(f"{path}.weights.h5")
    fresh = type(model).from_config(model.get_config())
    built(fresh)
    fresh.load_weights(f"{path}.weights.h5")
    return fresh


def weights_list(model, path):
    fresh = type(model).from_config(model.get_config())
    built(fresh)
    fresh.set_weights(model.get_weights())
    return fresh


def json_text(model, path):
    fresh = keras.models.model_from_json(model.to_json())
    built(fresh)
    fresh.set_weights(model.get_weights())
    return fresh


def object_config(model, path):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    fresh = keras.saving.deserialize_keras_object(config)
    built(fresh)
    fresh.set_weights(model.get_weights())
    return fresh


def clone(model, path):
    fresh = keras.models.clone_model(model)
    built(fresh)
    fresh.set_weights(model.get_weights())
    return fresh


def shallow_copy(model, path):
    return copy.copy(model)


def exported(model, path):
    model.export(f"{path}_export", verbose=False)
    loaded = tf.saved_model.load(f"{path}_export")
    return lambda x, training: loaded.serve(x)


def exported_layer(model, path):
    model.export(f"{path}_export", verbose=False)
    return keras.layers.TFSMLayer(f"{path}_export", call_endpoint="serve")


def saved_model(model, path):
    tf.saved_model.save(model, f"{path}_tf")
    loaded = tf.saved_model.load(f"{path}_tf")

    def call(x, training):
        signature = loaded.signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]
        (result,) = signature(**{name: tf.constant(x)}).values()
        return result

    return call


def checkpoint(model, path):
    prefix = tf.train.Checkpoint(model=model).save(f"{path}_checkpoint")
    fresh = type(model).from_config(model.get_config())
    built(fresh)
    tf.train.Checkpoint(model=fresh).restore(prefix)
    return fresh


COMPILED = [keras_file, function, folder, pickled, deep_copy, checkpoint_callback, h5_file]
NETWORKS = [
    not_compiled,
    not_compiled_h5,
    weights_file,
    weights_list,
    json_text,
    object_config,
    clone,
    shallow_copy,
    exported,
    exported_layer,
    saved_model,
    checkpoint,
]
# Stock Keras fails in these cases.
NOT_IN_STOCK = {
    (h5_file, "named"),
    (not_compiled_h5, "named"),
    (h5_file, "registered subclass"),  # "can't be saved to HDF5"
    (not_compiled_h5, "registered subclass"),
    (clone, "registered subclass"),
    (saved_model, "named"),  # the test expects a signature with one name
}


def same(way):
    def check(name, tmp_path):
        if (way, name) in NOT_IN_STOCK:
            pytest.skip("not in stock Keras")
        # Saving as HDF5 damages the compile configuration of a model, also in stock Keras.
        model, expected, evaluation = trained(name, "h5" if "h5" in way.__name__ else None)
        kind, number = type(model), len(model.layers)
        got = way(model, tmp_path / "model")
        np.testing.assert_allclose(outputs(got, name), expected, 1e-5, 1e-6)
        assert type(model) is kind  # saving leaves no trace
        assert len(model.layers) == number
        np.testing.assert_array_equal(outputs(model, name), expected)
        return model, got, evaluation

    return check


@pytest.mark.parametrize("name", slow_but(MODELS, "nested"))
@pytest.mark.parametrize("way", COMPILED, ids=lambda way: way.__name__)
def test_a_compiled_model_comes_back_with_its_optimizer(way, name, tmp_path):
    model, got, evaluation = same(way)(name, tmp_path)
    assert got.compiled
    assert int(got.optimizer.iterations.numpy()) == 2
    if way is h5_file:
        return  # stock Keras saves no variables of the optimizer in it
    for a, b in zip(got.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-6)
    if way is keras_file:
        y = {"out": Y} if name == "named" else Y
        assert got.evaluate(given(name), y, verbose=0) == pytest.approx(evaluation, 1e-4)
        got.train_on_batch(given(name), y)


@pytest.mark.parametrize("name", slow_but(MODELS, "nested"))
@pytest.mark.parametrize("way", slow_but(NETWORKS, clone), ids=lambda way: way.__name__)
def test_a_network_comes_back(way, name, tmp_path):
    same(way)(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "sequential", "nested", "registered subclass"])
def test_a_model_made_from_its_config_trains_as_distributed(name):
    model, _, _ = trained(name)
    with training.strategy("mirrored").scope():
        fresh = type(model).from_config(model.get_config())
        fresh.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    assert isinstance(fresh, DistributedModel)
    if fresh.built:
        fresh.set_weights(model.get_weights())
        expected = model.evaluate(X[:7], Y[:7], verbose=0)[0]
        assert fresh.evaluate(X[:7], Y[:7], verbose=0) == pytest.approx(expected, 1e-4)
    fresh.fit(X, Y, batch_size=4, verbose=0)


@pytest.mark.parametrize("way", [clone, deep_copy, shallow_copy], ids=lambda way: way.__name__)
def test_a_copy_keeps_micro_batches(way, tmp_path):
    model = functional()
    model.compile("sgd", "mse", micro_batches=2, jit_compile=False)
    copied = way(model, tmp_path / "model")
    assert isinstance(copied, DistributedModel)
    assert copied.get_compile_config().micro_batches == 2


def test_a_clone_of_a_list_of_layers_becomes_distributed_again():
    model, _, _ = trained("sequential")
    cloned = keras.models.clone_model(model)
    assert type(cloned) is keras.Sequential  # as of every subclass of it
    again = DistributedModel(cloned.inputs, cloned.outputs)
    again.set_weights(model.get_weights())
    again.compile("sgd", "mse", micro_batches=2, jit_compile=False)
    assert isinstance(again, DistributedModel)
    assert again.evaluate(X, Y, verbose=0) == pytest.approx(
        np.mean((outputs(model, "sequential") - Y) ** 2), 1e-4
    )


@pytest.mark.slow
def test_a_model_of_two_replicas_is_saved_in_every_way(tmp_path):
    keras.utils.set_random_seed(1)
    with training.strategy("mirrored").scope():
        model = functional()
        compile_(model)
    model.fit(X, Y, batch_size=4, verbose=0, shuffle=False)
    expected = outputs(model, "functional")
    wrong = {}
    for way in (*NETWORKS, *COMPILED):
        if way is checkpoint:
            continue  # TensorFlow's own format for mirrored variables
        try:
            got = outputs(way(model, tmp_path / way.__name__), "functional")
            if not np.allclose(got, expected, 1e-5, 1e-6):
                wrong[way.__name__] = float(np.abs(got - expected).max())
        except Exception as error:
            wrong[way.__name__] = f"{type(error).__name__}: {error}"[:200]
    assert not wrong, wrong


@pytest.mark.slow
def test_a_registered_subclass_is_loaded_in_the_scope_of_a_strategy(tmp_path):
    model, expected, _ = trained("registered subclass")
    model.save(tmp_path / "model.keras")
    with training.strategy("mirrored").scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is Registered
    assert loaded.compiled
    np.testing.assert_allclose(outputs(loaded, "functional"), expected, 1e-5, 1e-6)
    loaded.fit(X[:7], Y[:7], batch_size=4, verbose=0)
    assert int(loaded.optimizer.iterations.numpy()) == 4


# A process without keras_elu loads models that are saved as plain ones.

LOAD = """
import json, pickle, sys
sys.modules["keras_elu"] = None
import keras, numpy as np
for name, path, way in json.loads(sys.argv[1]):
    try:
        if way == "json":
            with open(path) as file:
                text, weights = json.load(file)
            model = keras.models.model_from_json(text)
            model.set_weights([np.array(w, "float32") for w in weights])
        elif way == "pickle":
            with open(path, "rb") as file:
                model = pickle.load(file)
        elif way == "weights":
            model = keras.Sequential(
                [keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(2)]
            )
            model.load_weights(path)
        elif way == "export":
            model = keras.layers.TFSMLayer(path, call_endpoint="serve")
        else:
            model = keras.saving.load_model(path)
        x = np.linspace(-1, 1, 32).reshape(8, 4).astype("float32")
        x = {"a": x, "b": x + 1} if name == "named" else x
        y = model(x, training=False) if way != "export" else model(x)
        y = y["out"] if isinstance(y, dict) else y
        kinds = sorted({type(layer).__module__.split(".")[0] for layer in [model]})
        print(json.dumps([name, way, "ok", np.asarray(y).ravel().tolist(), kinds]), flush=True)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}".replace(chr(10), " ")[:300]
        print(json.dumps([name, way, text, [], []]), flush=True)
"""


@pytest.mark.slow
def test_a_process_without_keras_elu_loads_networks_of_stock_layers(tmp_path):
    files, expected = [], {}
    x = np.linspace(-1, 1, 32).reshape(8, 4).astype("float32")
    for name in OF_STOCK_LAYERS:
        model, _, _ = trained(name, "files")
        result = model({"a": x, "b": x + 1} if name == "named" else x, training=False)
        expected[name] = np.ravel(result["out"] if isinstance(result, dict) else result)
        paths = {
            way: str(tmp_path / f"{name}{suffix}")
            for way, suffix in (
                ("keras", ".keras"),
                ("h5", ".h5"),
                ("json", ".json"),
                ("pickle", ".pickle"),
                ("weights", ".weights.h5"),
                ("export", "_export"),
                ("function", "_function.keras"),
            )
        }
        model.save(paths["keras"])
        keras.saving.save_model(model, paths["function"])
        text = json.dumps([model.to_json(), [w.tolist() for w in model.get_weights()]])
        pathlib.Path(paths["json"]).write_text(text)
        pathlib.Path(paths["pickle"]).write_bytes(pickle.dumps(model))
        model.export(paths["export"], verbose=False)
        model.save(paths["h5"])
        if name == "sequential":
            model.save_weights(paths["weights"])
        else:
            paths.pop("weights")
        if name == "named":
            paths.pop("h5")  # which stock Keras cannot load
        files += [(name, path, way) for way, path in paths.items()]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(files)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(files), done.stderr
    wrong = {f"{name}, {way}": said for name, way, said, *_ in lines if said != "ok"}
    for name, way, said, got, kinds in lines:
        if said == "ok":
            assert "keras_elu" not in kinds
            if not np.allclose(got, expected[name], 1e-5, 1e-6):
                wrong[f"{name}, {way}"] = "other outputs"
    assert not wrong, wrong
