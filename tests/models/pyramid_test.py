import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import models

SIDES = [(1, 1), (1, 5), (2, 3), (4, 4), (5, 7), (13, 8)]


def _pyramid(x, levels):
    """Bin by bin and channel by channel, as the definition says it."""
    batch, height, width, channels = x.shape
    out = []
    for n in levels:
        for i in range(n):
            for j in range(n):
                top, bottom = math.floor(i * height / n), math.ceil((i + 1) * height / n)
                left, right = math.floor(j * width / n), math.ceil((j + 1) * width / n)
                out.append(
                    [
                        [x[b, top:bottom, left:right, c].max() for c in range(channels)]
                        for b in range(batch)
                    ]
                )
    return np.array(out).transpose(1, 0, 2)


def _images(height, width):
    return np.random.default_rng(height).normal(size=(2, height, width, 3)).astype("float32")


@pytest.mark.parametrize("levels", [(1,), (3,), (1, 2, 4), [4, 1]])
@pytest.mark.parametrize("sides", SIDES)
def test_the_pyramid_is_the_maximum_of_each_bin(sides, levels):
    x = _images(*sides)
    layer = models.SpatialPyramidPooling2D(levels)
    actual = layer(x)
    assert actual.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_array_equal(actual, _pyramid(x, levels))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_model_takes_images_of_unknown_size(jit_compile):
    inputs = keras.Input((None, None, 3))
    outputs = models.SpatialPyramidPooling2D()(inputs)
    assert outputs.shape == (None, 21, 3)
    model = keras.Model(inputs, outputs)
    spec = tf.TensorSpec([None, None, None, 3])
    call = tf.function(model, input_signature=[spec], jit_compile=jit_compile)
    for sides in SIDES:
        np.testing.assert_array_equal(call(_images(*sides)), _pyramid(_images(*sides), (1, 2, 4)))


def test_the_gradient_goes_to_each_bins_maximum():
    x = tf.constant([[3.0, 0, 1, 2], [0, 0, 0, 0], [0, 0, 5, 0], [4, 0, 0, 0]])[None, ..., None]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(models.SpatialPyramidPooling2D([1, 2])(x))
    expected = [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 2, 0], [1, 0, 0, 0]]
    assert tape.gradient(y, x)[0, ..., 0].numpy().tolist() == expected


def test_the_pyramid_survives_saving(tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, models.SpatialPyramidPooling2D([1, 3])(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(_images(5, 7)), model(_images(5, 7)))


@pytest.mark.parametrize("levels", [0, [], [0], [1, -2], [1.5], [True], "12", None])
def test_bad_levels_get_one_sentence(levels):
    with pytest.raises(ValueError, match="levels="):
        models.SpatialPyramidPooling2D(levels)
