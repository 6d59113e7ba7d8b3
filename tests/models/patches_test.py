"""The whitening of patches, against NumPy."""

import keras
import numpy as np
import pytest

from keras_elu import models


def correlated(count=700, side=9, channels=3):
    """Smooth images in bytes: the running mean of noise, with similar channels."""
    noise = np.random.default_rng(0).normal(size=(count, side + 4, side + 4, channels))
    windows = np.lib.stride_tricks.sliding_window_view(noise, (5, 5), axis=(1, 2))
    smooth = windows.mean(axis=(-1, -2))
    smooth = smooth + 2 * smooth.mean(axis=-1, keepdims=True)
    return np.clip(128 + 100 * smooth, 0, 255).astype("uint8")


def patches(images, size):
    """All patches as rows, in the order of a kernel."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[-1])


@pytest.mark.parametrize(("size", "channels"), [(2, 3), (2, 1), (3, 2)])
def test_the_filters_are_the_scaled_eigenvectors_of_the_patches(size, channels):
    images = correlated(channels=channels)
    layer = models.PatchWhitening(size)
    layer.adapt(images)
    rows = patches(images, size).astype("float64")
    covariance = np.cov(rows, rowvar=False, bias=True)
    least = 5e-4 * np.diag(covariance).mean()
    half = rows.shape[1]
    kernel = keras.ops.convert_to_numpy(layer.kernel).reshape(half, 2 * half).astype("float64")
    filters = kernel[:, :half]
    np.testing.assert_array_equal(kernel[:, half:], -filters)
    # C w = e w, and |w| = 1 / sqrt(e + least).
    eigenvalues = np.sum(filters * (covariance @ filters), axis=0) / np.sum(filters**2, axis=0)
    np.testing.assert_allclose(covariance @ filters, eigenvalues * filters, atol=1e-4)
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-4)
    np.testing.assert_allclose(
        np.linalg.norm(filters, axis=0), 1 / np.sqrt(eigenvalues + least), rtol=1e-5
    )


def test_the_outputs_are_white():
    images = correlated()
    layer = models.PatchWhitening()
    layer.adapt(images)
    outputs = keras.ops.convert_to_numpy(layer(images))
    assert outputs.shape == (700, 8, 8, 24)
    first = outputs[..., :12].reshape(-1, 12).astype("float64")
    np.testing.assert_allclose(outputs[..., 12:].reshape(-1, 12), -first, atol=1e-3)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(first, rowvar=False)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    assert (np.diag(covariance) <= 1.001).all()
    assert (np.diag(covariance) > 0.5).all()


def test_constant_images_become_zero():
    layer = models.PatchWhitening()
    images = np.full((3, 4, 4, 1), 7, "uint8")
    layer.adapt(images)
    np.testing.assert_allclose(layer(images), np.zeros((3, 3, 3, 8)), atol=1e-3)


def test_only_the_bias_is_trained_and_the_filters_are_saved(tmp_path):
    images = correlated(count=8)
    layer = models.PatchWhitening(name="patch_whitening")
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(images)
    assert [w.name for w in model.trainable_weights] == ["bias"]
    assert model.output_shape == layer.compute_output_shape((None, *images.shape[1:]))
    assert models.multiply_accumulates(model) == 8 * 8 * 12 * 24
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_in_mixed_precision_it_computes_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert models.PatchWhitening()(correlated(count=2)).dtype == "float32"
