"""Global contrast normalisation and ZCA whitening, as the paper preprocesses CIFAR-100.

Reference:
    [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.2, after
    [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389).
"""

import contextlib
import hashlib
import pathlib
import zipfile

import numpy as np

from keras_elu import files

CONTRAST = 55.0
REGULARISATION = 0.1
CHUNK = 5000  # images at a time in float64, to keep memory down


def normalise_contrast(images: np.ndarray) -> np.ndarray:
    """Subtracts each image's mean, divides by its L2 norm, and multiplies by 55.

    Args:
        images: (N, ...) numbers. A constant image becomes zero.

    Output shape:
        (N, features), float64.

    Example:

    >>> normalise_contrast(np.array([[[1, 7]], [[5, 5]]])).round(3).tolist()
    [[-38.891, 38.891], [0.0, 0.0]]
    """
    flat = np.array(images, np.float64).reshape(len(images), -1)  # a copy, changed in place
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("ij,ij->i", flat, flat))[:, np.newaxis]
    flat *= CONTRAST / np.where(norm < 1e-8, 1.0, norm)
    return flat


def fit(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The feature mean m and the matrix P = V diag(e^-1/2) V' with which ZCA whitens: (x - m) P.

    e and V are the eigenvalues and eigenvectors of C = X'X / N + 0.1 I, where the rows of X are the
    contrast-normalised images less m. Sums and the decomposition are in float64.

    Args:
        images: (N, ...), the training images.

    Returns:
        m, (features,), and P, (features, features), both float32.
    """
    count, features = len(images), int(np.prod(images.shape[1:]))
    total, products = np.zeros(features), np.zeros((features, features))
    for start in range(0, count, CHUNK):
        x = normalise_contrast(images[start : start + CHUNK])
        total += x.sum(axis=0)
        products += x.T @ x
    mean = total / count
    # No entry is beyond 55, so that subtracting the mean afterwards loses nothing in float64.
    covariance = products / count - np.outer(mean, mean) + REGULARISATION * np.eye(features)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    matrix = (vectors / np.sqrt(eigenvalues)) @ vectors.T
    return mean.astype(np.float32), matrix.astype(np.float32)


def whiten(images: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Contrast-normalises and whitens.

    Args:
        images: (N, ...).
        mean, matrix: What `fit` returned for the training images.

    Output shape:
        That of `images`, float32.
    """
    result = np.empty((len(images), mean.size), np.float32)
    for start in range(0, len(images), CHUNK):
        x = normalise_contrast(images[start : start + CHUNK]) - mean
        np.matmul(x.astype(np.float32), matrix, out=result[start : start + len(x)])
    return result.reshape(images.shape)


def fit_once(
    images: np.ndarray, folder: pathlib.Path | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """`fit(images)`, kept in `folder` under a checksum of the images and of the constants.

    If the stored file is damaged or belongs to other images, the whitening is fitted again. If
    `folder` is None or cannot be written, nothing is stored.
    """
    constants = (CONTRAST, REGULARISATION, images.shape, str(images.dtype))
    key = hashlib.sha256(repr(constants).encode())
    key.update(np.ascontiguousarray(images))
    if folder is None:
        return fit(images)
    path = pathlib.Path(folder) / f"{name}-{key.hexdigest()[:16]}.npz"
    unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with (
        contextlib.suppress(*unreadable),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        mean, matrix = stored["mean"], stored["matrix"]
        if str(stored["checksum"]) == _checksum(key, mean, matrix):
            return mean, matrix
    print(f"Fitting the whitening on {len(images):,} images, once for all runs.", flush=True)
    mean, matrix = fit(images)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.aside(path, shared=True) as aside:
            np.savez(aside, mean=mean, matrix=matrix, checksum=_checksum(key, mean, matrix))
    return mean, matrix


def _checksum(key: "hashlib._Hash", mean: np.ndarray, matrix: np.ndarray) -> str:
    checksum = key.copy()
    checksum.update(np.ascontiguousarray(mean))
    checksum.update(np.ascontiguousarray(matrix))
    return checksum.hexdigest()
