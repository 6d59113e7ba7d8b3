"""A saved model is self-contained: it takes bytes and knows its classes, wherever it lies."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_elu import data, models
from keras_elu.data import preprocessing
from keras_elu.recipes import autoencoder, cifar, imagenet_resnet, mnist
from keras_elu.training.config import recipe_name
from tests.recipes.small import RECIPES, config

ROOT = pathlib.Path(__file__).parents[2]


def made(recipe):
    dataset = data.synthetic(image_shape=(8, 8, 3), classes=4, examples=32)
    dataset.class_names = ("ant", "bee", "cow", "dog")
    network, _ = recipe.build(config(recipe), dataset, 10)
    if recipe is imagenet_resnet:  # its branches start at zero
        network.set_weights([w + 0.01 for w in network.get_weights()])
    return dataset, network, recipe.self_contained(config(recipe), dataset, network)


def only_batch(pipeline):
    ((images, targets),) = pipeline.as_numpy_iterator()
    return images, targets


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(r, marks=[pytest.mark.slow] * (r is imagenet_resnet), id=recipe_name(r))
        for r in RECIPES
    ],
)
def test_the_saved_model_gives_for_bytes_what_the_network_gives_for_its_images(recipe, tmp_path):
    dataset, network, model = made(recipe)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images, _ = only_batch(recipe.datasets(config(recipe), dataset)[2])
    pixels, _ = only_batch(recipe.datasets(config(recipe), dataset, preprocess="none")[2])
    assert pixels.dtype == np.uint8
    expected = network(images).numpy()
    assert np.ptp(expected, axis=0).min() > 1e-4
    for form in (pixels, pixels.astype("float32")):
        np.testing.assert_allclose(loaded(form).numpy(), expected, rtol=1e-3, atol=1e-3)
    if recipe is not autoencoder:
        assert loaded.class_names == ("ant", "bee", "cow", "dog")
        assert (loaded.image_size, loaded.crop) == ((8, 8), None)
    assert {layer.name for layer in network.layers} <= {layer.name for layer in loaded.layers}
    assert model.count_params() - network.count_params() == (192 * 193 if recipe is cifar else 0)


def test_the_whitening_layer_is_that_of_the_pipeline_even_for_a_constant_image():
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3)).astype("uint8")
    images[:256] = np.arange(256)[:, None, None, None]
    mean, matrix = preprocessing.fit(images)
    layer = models.Whitening()
    layer.build(images.shape)
    layer.set_weights([mean, matrix])
    expected = preprocessing.whiten(images, mean, matrix)
    np.testing.assert_allclose(layer(images).numpy(), expected, atol=2e-4)
    assert layer.compute_dtype == "float32"
    with keras.device("cpu"):
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert models.Whitening().compute_dtype == "float32"


def test_a_classifier_survives_all_that_keras_does_to_a_model():
    _, _, model = made(mnist)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert copy.class_names == model.class_names
    assert copy.image_size == (8, 8)
    assert keras.models.clone_model(model).output_shape == (None, 4)
    assert keras.models.model_from_json(model.to_json()).class_names == model.class_names
    with pytest.raises(ValueError, match="class_names has 2 names for 4 logits"):
        models.Classifier(model.inputs[0], model.outputs[0], class_names=["a", "b"])


# Imports only keras and keras_elu, finds only model.keras, and reads the test set's raw bytes.
IN_AN_EMPTY_FOLDER = """
import keras, keras_elu
import numpy, sys
model = keras.saving.load_model("model.keras")
held = numpy.load(sys.argv[1])
pixels, labels = held["pixels"], held["labels"]
size = model.image_size
if pixels.shape[1:3] != size:
    pixels = keras.ops.image.resize(pixels.astype("float32"), size)
    pixels = numpy.floor(numpy.asarray(pixels) + 0.5).astype("uint8")
outputs = numpy.asarray(model(pixels))
names = [model.class_names[i] for i in outputs.argmax(1)]
print((numpy.array(names) == labels).mean())
"""
RUNS = {
    "mnist": (),
    "cifar": ("--activation", "parametric_elu", "--network", "elu_resnet", "--learning_rate", 0.1),
    "imagenet": ("--strategy", "mirrored", "--virtual_devices", 2, "--width", 1 / 32),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags"), RUNS.items(), ids=RUNS)
def test_the_test_accuracy_comes_back_from_the_file_alone(name, flags, data_dir, tmp_path):
    run, alone = tmp_path / "run", tmp_path / "alone"
    command = [sys.executable, ROOT / "trainers" / f"{name}.py", "--dataset", "digits"]
    command += ["--epochs", 3, "--run_dir", run, "--data_dir", data_dir, *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True)
    wanted = json.loads((run / "result.json").read_text())["test"]["accuracy"]
    alone.mkdir()
    (run / "model.keras").rename(alone / "model.keras")
    dataset = data.load("digits", data_dir=data_dir)
    images, labels = only_batch(dataset.evaluation("test", 360, preprocess="none"))
    names = np.array([dataset.class_names[label] for label in labels])
    np.savez(tmp_path / "test.npz", pixels=images, labels=names)
    done = subprocess.run(
        [sys.executable, "-c", IN_AN_EMPTY_FOLDER, str(tmp_path / "test.npz")],
        env=environment,
        cwd=alone,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(wanted, abs=1e-6)
    assert wanted > 0.3
