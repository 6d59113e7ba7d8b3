"""TrivialAugment against arithmetic by hand, and erasing against its definition."""

import math

import numpy as np
import pytest

from keras_elu.data import distortions

NAMES = list(distortions.OPERATIONS)
STRONG, WEAK = 30.5 / 31, 0.5 / 31  # draws of the strongest level and of none


def done(name, pixels, level=STRONG, sign=0.9):
    return distortions.trivial_augment(pixels, [(NAMES.index(name) + 0.5) / 14, level, sign])


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(20, 230, (40, 60, 3), np.uint8)


def test_without_strength_all_but_two_leave_an_image_as_it_is(pixels):
    changed = {name for name in NAMES if not np.array_equal(done(name, pixels, WEAK), pixels)}
    assert changed == {"autocontrast", "equalize"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES[1:])
def test_with_all_strength_an_image_becomes_another_of_its_shape(pixels, name, channels):
    pixels = pixels[..., :channels]
    after = done(name, pixels)
    assert (after.shape, after.dtype) == (pixels.shape, np.uint8)
    same = np.array_equal(after, pixels)
    assert same == (name == "color" and channels == 1)


def test_images_are_moved_by_32_pixels_to_either_side(pixels):
    np.testing.assert_array_equal(done("translate_x", pixels)[:, :28], pixels[:, 32:])
    assert not done("translate_x", pixels)[:, 28:].any()
    np.testing.assert_array_equal(done("translate_y", pixels, sign=0.1)[32:], pixels[:8])


def test_a_shear_moves_each_row_by_its_distance_from_the_top(pixels):
    after = done("shear_x", pixels)
    for row in (0, 11, 39):
        shift = math.floor(0.99 * (row + 0.5) + 0.5)
        np.testing.assert_array_equal(after[row, : 60 - shift], pixels[row, shift:])


def test_a_turn_is_of_135_degrees_against_the_clock():
    pixels = np.zeros((41, 41, 1), np.uint8)
    pixels[19:22, 33:36] = 255  # right of the centre, by 14
    rows, columns = np.nonzero(done("rotate", pixels)[..., 0])
    assert np.mean(rows) == pytest.approx(20 - 14 * math.sin(math.radians(135)), abs=0.6)
    assert np.mean(columns) == pytest.approx(20 + 14 * math.cos(math.radians(135)), abs=0.6)


def test_colours_are_computed_as_their_names_say(pixels):
    wide = pixels.astype(int)
    brighter = np.minimum(255, wide * 1.99)
    np.testing.assert_allclose(done("brightness", pixels), brighter, atol=1)
    np.testing.assert_allclose(done("brightness", pixels, sign=0), wide * 0.01, atol=1)
    grey = (wide @ [0.299, 0.587, 0.114])[..., None]
    np.testing.assert_allclose(done("color", pixels, sign=0), grey + 0.01 * (wide - grey), atol=2)
    flat = grey.mean() + 0.01 * (wide - grey.mean())
    np.testing.assert_allclose(done("contrast", pixels, sign=0), flat, atol=2)
    np.testing.assert_array_equal(done("posterize", pixels), pixels & 0b11000000)
    np.testing.assert_array_equal(done("solarize", pixels), 255 - pixels)
    half = done("solarize", pixels, 15.5 / 31)
    np.testing.assert_array_equal(half, np.where(pixels < 128, pixels, 255 - pixels))
    low, high = (of(wide, (0, 1)) for of in (np.min, np.max))
    np.testing.assert_allclose(
        done("autocontrast", pixels), (wide - low) * 255 / (high - low), atol=1
    )
    equal, size = done("equalize", pixels), pixels[..., 0].size
    for before, after in zip(np.moveaxis(pixels, 2, 0), np.moveaxis(equal, 2, 0), strict=True):
        counts = np.bincount(before.ravel(), minlength=256)
        level = (size - counts[before.max()]) // 255  # pixels that each of 255 levels stands for
        assert abs((after < 128).sum() - 127.5 * level) <= counts.max()


def test_all_operations_are_drawn_alike():
    drawn = [int(draw * 14) for draw in np.linspace(0, 1, 14_000, endpoint=False)]
    assert set(np.bincount(drawn)) == {1000}


def test_a_rectangle_is_erased_of_the_area_and_the_ratio_of_the_paper():
    dice = np.random.default_rng(0).random((3000, 4))
    areas, ratios, tops = [], [], []
    for draws in dice:
        pixels = np.zeros((100, 100, 3), np.uint8)
        distortions.erase(pixels, draws)
        rows, columns = (np.flatnonzero(pixels.any((axis, 2))) for axis in (1, 0))
        height, width = len(rows), len(columns)
        assert (pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 128).all()
        assert pixels.sum() == 128 * 3 * height * width
        areas.append(height * width / 100**2)
        ratios.append(width / height)
        tops.append(rows[0] / max(1, 100 - height))
    assert 0.018 < min(areas) < 0.03
    assert 0.3 < max(areas) < 0.34
    assert np.mean(areas) == pytest.approx((0.02 + 0.33) / 2, abs=0.01)
    assert np.mean(np.log(ratios)) == pytest.approx(0, abs=0.05)
    assert min(ratios) < 0.35 < 3 < max(ratios)
    assert np.mean(tops) == pytest.approx(0.5, abs=0.03)
