import os
import pathlib

import numpy as np
import pytest

from keras_elu import data
from keras_elu.data import preprocessing


@pytest.fixture
def images():
    # Fewer images than features: without the 0.1 I the covariance could not be inverted.
    return np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)


def oracle(train, images):
    """Section 4.2, line by line, by a singular value decomposition in place of the eigenvectors."""

    def contrast(batch):
        rows = []
        for image in batch.astype(np.float64):
            centred = image.ravel() - image.mean()
            rows.append(55 * centred / np.sqrt((centred**2).sum()))
        return np.array(rows)

    x = contrast(train)
    mean = x.mean(axis=0)
    covariance = np.cov(x, rowvar=False, bias=True) + 0.1 * np.eye(x.shape[1])
    left, scale, _ = np.linalg.svd(covariance)
    return ((contrast(images) - mean) @ (left * scale**-0.5 @ left.T)).reshape(images.shape)


def test_contrast_normalisation_gives_mean_zero_and_norm_55(images):
    flat = preprocessing.normalise_contrast(images)
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 55, rtol=1e-12)
    assert not preprocessing.normalise_contrast(np.full((1, 2, 2, 1), 7)).any()


@pytest.mark.parametrize("chunk", [5000, 7])
def test_whitening_is_the_papers_formula_on_seen_and_unseen_images(images, chunk, monkeypatch):
    monkeypatch.setattr(preprocessing, "CHUNK", chunk)
    fitted = preprocessing.fit(images)
    unseen = np.random.default_rng(1).integers(0, 256, (9, 4, 4, 3)).astype(np.uint8)
    for batch in (images, unseen):
        result = preprocessing.whiten(batch, *fitted)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, oracle(images, batch), rtol=0, atol=2e-4)


def test_the_whitened_training_set_has_the_covariance_that_the_formula_implies(images):
    mean, matrix = preprocessing.fit(images)
    flat = preprocessing.whiten(images, mean, matrix).reshape(40, -1).astype(np.float64)
    raw = np.cov(preprocessing.normalise_contrast(images), rowvar=False, bias=True)
    # P = (C + r I)^-1/2 commutes with C: P C P = C (C + r I)^-1 = I - r (C + r I)^-1.
    implied = np.eye(48) - 0.1 * np.linalg.inv(raw + 0.1 * np.eye(48))
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(flat.T @ flat / 40, implied, atol=1e-4)


def test_it_is_fitted_once_and_whatever_spoils_the_stored_file_is_noticed(
    images, tmp_path, monkeypatch
):
    calls = []
    fit = preprocessing.fit
    monkeypatch.setattr(preprocessing, "fit", lambda x: calls.append(1) or fit(x))
    folder = tmp_path / "new"

    def fits(batch=images):
        calls.clear()
        result = preprocessing.fit_once(batch, folder, "some")
        for got, expected in zip(result, fit(batch), strict=True):
            np.testing.assert_array_equal(got, expected)
        return len(calls)

    assert (fits(), fits()) == (1, 0)
    (path,) = folder.iterdir()
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (bytes(flipped), good[: len(good) // 2], b"", b"nonsense"):
        path.write_bytes(bad)
        assert (fits(), fits()) == (1, 0)
    mean, matrix = fit(images)
    np.savez(path, mean=mean + 1, matrix=matrix, checksum=np.load(path)["checksum"])
    assert (fits(), fits()) == (1, 0)
    other = images.copy()
    other[0, 0, 0, 0] ^= 1
    assert (fits(other), fits(other), fits()) == (1, 0, 0)
    foreign = next(p for p in folder.iterdir() if p != path)
    path.write_bytes(foreign.read_bytes())
    assert fits() == 1
    monkeypatch.setattr(preprocessing, "REGULARISATION", 0.2)
    assert fits() == 1
    assert not list(folder.glob("*.incomplete"))


def test_where_nothing_can_be_stored_it_still_whitens_and_leaves_nothing(images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (None, tmp_path / "file"):
        np.testing.assert_array_equal(
            preprocessing.fit_once(images, folder, "some")[1], preprocessing.fit(images)[1]
        )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_no_half_file(images, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    preprocessing.fit_once(images, tmp_path, "some")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif("KERAS_ELU_DATA" not in os.environ, reason="KERAS_ELU_DATA is not set")
def test_the_real_cifar10_comes_out_white(tmp_path):
    folder = pathlib.Path(os.environ["KERAS_ELU_DATA"])
    dataset = data.load("cifar10", data_dir=tmp_path, manual_dir=folder, validation_examples=0)
    pipeline = dataset.training(5000, augment="none", preprocess="whiten").take(10)
    images = np.concatenate([x.numpy().reshape(5000, -1) for x, _ in pipeline])
    (stored,) = (tmp_path / "cifar10").glob("*.npz")
    matrix = np.load(stored)["matrix"].astype(np.float64)
    implied = np.eye(3072) - 0.1 * matrix @ matrix
    np.testing.assert_allclose(images.T @ images / 50_000, implied, atol=1e-5)
