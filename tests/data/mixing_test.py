import numpy as np
import pytest
import tensorflow as tf

from keras_elu import data
from keras_elu.data.mixing import Mixing

SIZE = 16


def weights(mixing, rows=4000):
    return mixing.plan(rows, (SIZE, SIZE), [1, 2]).numpy()


@pytest.mark.parametrize("concentration", [0.2, 1.0, 4.0])
def test_weights_of_mixup_have_the_beta_distribution(concentration):
    found = weights(Mixing(mixup=concentration), 20_000)[::2, 0]
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    # The variance of a symmetric beta distribution.
    assert np.var(found) == pytest.approx(1 / (4 * (2 * concentration + 1)), rel=0.05)


def test_both_rows_of_a_pair_have_the_same_plan():
    for mixing in (Mixing(mixup=0.2), Mixing(cutmix=1.0), Mixing(0.2, 1.0)):
        plan = weights(mixing)
        np.testing.assert_array_equal(plan[::2], plan[1::2])
        assert len(np.unique(plan[:, 0])) > 50


def test_windows_have_the_area_of_their_weight():
    plan = weights(Mixing(cutmix=1.0))
    weight, top, left, bottom, right = plan.T
    np.testing.assert_allclose(weight, (bottom - top) * (right - left) / SIZE**2, rtol=1e-6)
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == SIZE
    assert (bottom - top).max() == (right - left).max() == SIZE


def test_of_both_kinds_each_has_half_of_the_pairs():
    cut = weights(Mixing(0.2, 1.0))[:, 3] > 0
    assert cut.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(0.2, 1.0)])
@pytest.mark.parametrize("rows", [8, 7])
def test_pixels_and_labels_are_mixed_by_the_same_share(mixing, rows):
    """Of images of one colour each, the mean tells how much of each is in a mixture."""
    values = np.arange(rows) * 30
    images = tf.constant(np.tile(values[:, None, None, None], (1, SIZE, SIZE, 3)), tf.uint8)
    labels = tf.one_hot(range(rows), rows)
    plan = mixing.plan(rows, (SIZE, SIZE), [3, 4])
    mixed, shares = mixing.mixed(images, labels, plan)
    assert mixed.dtype == tf.uint8
    np.testing.assert_allclose(np.sum(shares, 1), 1, rtol=1e-6)
    expected = shares.numpy() @ values
    np.testing.assert_allclose(mixed.numpy().mean((1, 2, 3)), expected, atol=0.51)
    partner = np.minimum(np.arange(rows) ^ 1, rows - 1)
    own = shares.numpy()[np.arange(rows), np.arange(rows)]
    np.testing.assert_allclose(
        shares.numpy()[np.arange(rows), partner],
        np.where(partner == np.arange(rows), own, 1 - own),
        rtol=1e-5,
        atol=1e-6,
    )
    if rows % 2:
        assert own[-1] == 1


def test_a_training_pipeline_mixes_and_is_a_function_of_the_step():
    dataset = data.synthetic((8, 8, 1), classes=5, examples=64)
    kwargs = {"seed": 2, "mixup": 0.4, "cutmix": 1.0, "one_hot": True, "augment": "none"}
    whole = list(dataset.training(16, **kwargs).take(6))
    assert whole[0][1].shape == (16, 5)
    assert any(0.01 < share < 0.99 for share in whole[0][1].numpy().ravel())
    skipped = next(iter(dataset.training(16, start_step=5, **kwargs)))
    for a, b in zip(whole[5], skipped, strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_that_cannot_be_mixed_are_refused():
    dataset = data.synthetic((8, 8, 1), classes=5, examples=64)
    with pytest.raises(ValueError, match="use one_hot=True with them"):
        dataset.training(4, mixup=0.2)
    with pytest.raises(ValueError, match="cutmix is -1; it must be a number from 0 to 100"):
        dataset.training(4, cutmix=-1, one_hot=True)
    with pytest.raises(ValueError, match="synthetic has small images"):
        dataset.training(4, erasing=0.5)
