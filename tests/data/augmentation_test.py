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


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_shift_is_a_window_of_the_reflected_image(most):
    images = np.random.default_rng(0).integers(0, 256, (400, 5, 7, 2)).astype("uint8")
    padded = np.pad(images, [(0, 0), (most, most), (most, most), (0, 0)], mode="reflect")
    result = augmentation.shift(tf.constant(images), [3, 5], most).numpy()
    assert result.dtype == "uint8"
    found = set()
    for image, shifted in zip(padded, result, strict=True):
        offsets = [
            (top, left)
            for top, left in itertools.product(range(2 * most + 1), repeat=2)
            if np.array_equal(image[top : top + 5, left : left + 7], shifted)
        ]
        assert len(offsets) == 1
        found.update(offsets)
    assert len(found) == (2 * most + 1) ** 2
    assert np.array_equal(augmentation.shift(tf.constant(images), [3, 5], most), result)
    if most:
        assert not np.array_equal(augmentation.shift(tf.constant(images), [3, 6], most), result)


def test_mirroring_alternates_from_epoch_to_epoch():
    indices = tf.range(9000)
    first, second, third = (
        augmentation.alternating(indices, tf.constant(epoch, tf.int64), 7, 9000).numpy()
        for epoch in range(3)
    )
    assert abs(first.mean() - 0.5) < 5 * np.sqrt(0.25 / 9000)
    np.testing.assert_array_equal(second, ~first)
    np.testing.assert_array_equal(third, first)
    few = augmentation.alternating(tf.constant([[5], [2]]), tf.constant(1), 7, 9000)
    np.testing.assert_array_equal(few, second[[[5], [2]]])
    assert (augmentation.alternating(indices, tf.constant(0), 8, 9000).numpy() != first).any()


def test_mirroring_flips_left_and_right():
    images = np.arange(12, dtype="uint8").reshape(2, 2, 3, 1)
    result = augmentation.mirror(tf.constant(images), tf.constant([True, False])).numpy()
    np.testing.assert_array_equal(result[0], images[0, :, ::-1])
    np.testing.assert_array_equal(result[1], images[1])
