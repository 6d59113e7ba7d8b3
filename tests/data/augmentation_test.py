import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_elu.data import augmentation


def oracle(images, tops, lefts, mirrored, pad):
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    height, width = images.shape[1:3]
    windows = []
    for image, top, left, flip in zip(padded, tops, lefts, mirrored, strict=True):
        window = image[top : top + height, left : left + width]
        windows.append(window[:, ::-1] if flip else window)
    return np.stack(windows)


@pytest.mark.parametrize(
    ("height", "width", "channels", "pad", "dtype"),
    [
        (32, 32, 3, 4, "uint8"),
        (8, 8, 1, 1, "uint8"),
        (28, 28, 1, 3, "float32"),
        (2, 2, 1, 1, "uint8"),
        (5, 9, 2, 3, "float32"),
        (224, 224, 1, 2, "uint8"),
    ],
)
def test_every_offset_gives_exactly_the_window_that_slicing_gives(
    height, width, channels, pad, dtype
):
    offsets = range(2 * pad + 1)
    tops, lefts, mirrored = np.array(list(itertools.product(offsets, offsets, [0, 1]))).T
    shape = (len(tops), height, width, channels)
    images = np.random.default_rng(0).integers(1, 256, shape).astype(dtype)
    if dtype == "float32":
        images = images * np.float32(-0.1)
    result = augmentation.crop_and_mirror(images, tops, lefts, mirrored.astype(bool), pad)
    np.testing.assert_array_equal(result, oracle(images, tops, lefts, mirrored, pad))


@pytest.mark.parametrize("mirror", [False, True])
def test_offsets_and_coins_are_uniform_and_follow_the_seed(mirror):
    ramp = np.broadcast_to(np.arange(1, 7), (6, 6)) + 10 * np.arange(1, 7)[:, None]
    images = tf.constant(np.broadcast_to(ramp[..., None], (9000, 6, 6, 1)), tf.uint8)
    result = augmentation.pad_crop_flip(images, [3, 5], 1, mirror).numpy()
    windows, counts = np.unique(result[..., 0].reshape(-1, 36), axis=0, return_counts=True)
    kinds = 18 if mirror else 9
    assert len(windows) == kinds
    expected = 9000 / kinds
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    again = augmentation.pad_crop_flip(images, [3, 5], 1, mirror)
    other = augmentation.pad_crop_flip(images, [3, 6], 1, mirror)
    assert np.array_equal(again, result)
    assert not np.array_equal(other, result)
