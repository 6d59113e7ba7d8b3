import numpy as np
import pytest

from keras_elu.data import crops

SHAPES = [(375, 500), (500, 333), (64, 64), (20, 900), (900, 20), (1, 1)]


def windows(crop, count=2000, shapes=SHAPES):
    """Of each shape, `count` windows, as (shapes, count, 4)."""
    draws = np.random.default_rng(0).random((len(shapes), count, crops.DRAWS))
    found = [
        [crop(*shape, numbers) for numbers in of_shape.tolist()]
        for shape, of_shape in zip(shapes, draws, strict=True)
    ]
    return np.array(found)


@pytest.mark.parametrize("crop", [crops.random, crops.random_resized])
def test_every_window_lies_in_its_image_and_reaches_all_sides(crop):
    for (height, width), found in zip(SHAPES, windows(crop), strict=True):
        top, left, h, w = found.T
        assert min(top.min(), left.min()) >= 0
        assert (top + h).max() <= height
        assert (left + w).max() <= width
        assert min(h.min(), w.min()) >= 1
        if max(height, width) < 2 * min(height, width):
            assert top.min() == left.min() == 0
            assert ((top + h).max(), (left + w).max()) == (height, width)


def test_random_crops_are_squares_of_seven_eighths():
    _, _, h, w = np.moveaxis(windows(crops.random), -1, 0)
    np.testing.assert_array_equal(h, w)
    assert h[:, 0].tolist() == [328, 291, 56, 18, 18, 1]  # 7/8 of 375, 333, 64, 20, rounded


def test_resized_crops_are_spread_over_the_areas_and_the_ratios():
    """As in the paper, for images that can hold most of them: area evenly, log ratio evenly."""
    height, width = SHAPES[0]
    _, _, h, w = windows(crops.random_resized, 20_000, SHAPES[:1])[0].T
    area, ratio = h * w / (height * width), w / h
    assert 0.078 < area.min() < 0.09
    assert 0.97 < area.max() <= 1.0
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    small = area < 0.4  # those fit always, so that none was drawn anew
    assert abs(np.log(ratio[small]).mean()) < 0.01
    counts, _ = np.histogram(area[small], 4, (0.08, 0.4))
    assert counts.max() < 1.1 * counts.min()


def test_of_an_image_that_is_too_narrow_the_middle_is_taken():
    low, tall = windows(crops.random_resized)[3:5]
    assert [0, 437, 20, 27] in low.tolist()  # the widest with 4/3, in the middle of 900
    assert [437, 0, 27, 20] in tall.tolist()


def test_the_central_square_is_in_the_centre():
    assert [crops.central(*shape) for shape in SHAPES[:2]] == [
        (24, 86, 328, 328),
        (105, 21, 291, 291),
    ]
