"""Models and schedules on PyTorch and JAX, in one process each."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_elu import models, schedules
from keras_elu.data import preprocessing

PIXELS = np.array([[0, 9, 200, 31], [255, 7, 7, 0], [5, 5, 5, 5]], "uint8").reshape(3, 2, 2, 1)
WHITENING = np.arange(4.0), np.arange(16.0).reshape(4, 4)
STEPS = np.array([0, 3, 5, 99, 2**24 + 1, 2**30])
SCHEDULES = [
    schedules.PiecewiseConstant([3, 2**24 + 1], [0.1, 0.2, 0.3]),
    schedules.Knots([2, 5, 2**30], [0.3, 0.0, 1.1]),
    schedules.Linear(0.1, 0.7, 100),
    schedules.Cosine(0.3, 100, 5),
    schedules.OneCycle(0.3, 100),
]
SCRIPT = f"""
import json
import keras
import numpy as np
from keras_elu import layers, models
from keras_elu.schedules import *

def values(x):
    return keras.ops.convert_to_numpy(x).astype("float64")

def outputs(model, *shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    y = model.predict_on_batch(x)
    return [model.name, list(y.shape), bool(np.isfinite(y).all() and y.std() > 0)]

# JAX compiles the random numbers of every shape anew, for minutes.
def quick(shape, dtype=None):
    scale = (2 / np.prod(shape[:-1])) ** 0.5
    values = np.random.default_rng(0).normal(0, scale, shape)
    return keras.ops.convert_to_tensor(values, dtype)

quickly = {{"kernel_initializer": quick}}
smaller = {{"width": 1 / 16, **quickly}}

pool = models.SpatialPyramidPooling2D()
image = np.random.default_rng(0).normal(size=(2, 7, 3, 5)).astype("float32")
steps = np.array({STEPS.tolist()})
inputs = keras.Input((8, 8, 3))
x = keras.layers.Conv2D(4, 3, activation="relu", kernel_initializer="ones")(inputs)
small = keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)), name="small")
flat = keras.Input((2, 2, 1))
flat = keras.Model(flat, keras.layers.Flatten()(flat))
whitening = models.Whitening()
classifier = models.classifier(flat, whitening, class_names="abcd")
whitening.set_weights([np.arange(4.0), np.arange(16.0).reshape(4, 4)])
classifier.save("classifier.keras")
classifier = keras.saving.load_model("classifier.keras")
pixels = np.array({PIXELS.tolist()}, "uint8")
fast = models.fast_cifar((8, 8, 3), widths=(4, 4), convolutions=3)
fast.get_layer("patch_whitening").adapt(np.random.default_rng(0).normal(size=(9, 8, 8, 3)))
print(json.dumps({{
    "classifier": [list(classifier.class_names), values(classifier(pixels)).tolist()],
    "schedules": [values(schedule(steps)).tolist() for schedule in {SCHEDULES}],
    "schedule of a variable": float(
        Linear(0, 1, 10)(keras.Variable(5, dtype="int", trainable=False))
    ),
    "pyramid": values(pool(image)).tolist(),
    "moments": [models.second_moment(name) for name in ("relu", "elu", "selu")],
    "models": [
        outputs(models.mnist_mlp((4, 4, 1)), 2, 4, 4, 1),
        outputs(models.mnist_autoencoder((4, 4, 1)), 2, 4, 4, 1),
        outputs(models.elu_cifar_11((8, 8, 3), kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.elu_cifar_18((4, 4, 3), 10, kernel_initializer=quick), 2, 4, 4, 3),
        outputs(models.elu_imagenet_15((32, 24, 3), 10, **smaller), 2, 32, 24, 3),
        outputs(models.elu_imagenet_15((None, None, 3), 10, **smaller), 2, 20, 33, 3),
        outputs(models.elu_resnet((8, 8, 3), depth=8, kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.elu_resnet_50((32, 32, 3), 10, kernel_initializer=quick), 2, 32, 32, 3),
        outputs(models.alexnet_cifar((8, 8, 3), kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.network_in_network((8, 8, 3), kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.deeply_supervised((8, 8, 3), companions=1.0, **quickly), 2, 8, 8, 3),
        outputs(models.maxout((8, 8, 3), kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.all_cnn((9, 9, 3), kernel_initializer=quick), 2, 9, 9, 3),
        outputs(models.highway((8, 8, 3), kernel_initializer=quick), 2, 8, 8, 3),
        outputs(models.fractional_max_pooling((8, 8, 3), width=2, **quickly), 2, 8, 8, 3),
        outputs(fast, 2, 8, 8, 3),
        outputs(models.replace_activations(small, layers.ShiftedReLU), 2, 8, 8, 3),
    ],
}}))
"""
SHAPES = [
    ["mnist_mlp", [2, 10]],
    ["mnist_autoencoder", [2, 4, 4, 1]],
    ["elu_cifar_11", [2, 100]],
    ["elu_cifar_18", [2, 10]],
    ["elu_imagenet_15", [2, 10]],
    ["elu_imagenet_15", [2, 10]],
    ["elu_resnet_8", [2, 10]],
    ["elu_resnet_50", [2, 10]],
    ["alexnet_cifar", [2, 10]],
    ["network_in_network", [2, 10]],
    ["deeply_supervised", [2, 10]],
    ["maxout", [2, 10]],
    ["all_cnn", [2, 10]],
    ["highway", [2, 10]],
    ["fractional_max_pooling", [2, 10]],
    ["fast_cifar", [2, 10]],
    ["small", [2, 6, 6, 4]],
]


@pytest.fixture(scope="module", params=["torch", pytest.param("jax", marks=pytest.mark.slow)])
def elsewhere(request, tmp_path_factory):
    """What the script prints on another backend."""
    root = str(pathlib.Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ
        | {"KERAS_BACKEND": request.param, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": root},
        cwd=tmp_path_factory.mktemp("backend"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_every_network_runs(elsewhere):
    assert elsewhere["models"] == [[*shape, True] for shape in SHAPES]


def test_a_saved_classifier_takes_bytes_and_whitens_them(elsewhere):
    expected = preprocessing.whiten(PIXELS, *WHITENING).reshape(3, 4)
    names, outputs = elsewhere["classifier"]
    assert names == list("abcd")
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-3)


def test_schedules_give_the_same_numbers(elsewhere):
    expected = [schedule(STEPS).numpy().tolist() for schedule in SCHEDULES]
    np.testing.assert_allclose(elsewhere["schedules"], expected, rtol=4e-7)
    assert elsewhere["schedule of a variable"] == 0.5


def test_the_pyramid_and_the_moments_are_the_same(elsewhere):
    images = np.random.default_rng(0).normal(size=(2, 7, 3, 5)).astype("float32")
    expected = models.SpatialPyramidPooling2D()(images).numpy()
    np.testing.assert_array_equal(elsewhere["pyramid"], expected)
    np.testing.assert_allclose(elsewhere["moments"], [0.5, 0.6449, 1.0], atol=1e-4)
