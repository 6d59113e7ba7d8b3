import math

import numpy as np
import pytest
import tensorflow as tf

from keras_elu import data, training
from keras_elu.data import datasets, in_memory


def numbered(train=50, test=23, size=(6, 6, 1)):
    """Every image is filled with its own number, which is its label too."""

    def arrays(count):
        images = np.broadcast_to(np.arange(count).reshape(-1, 1, 1, 1), (count, *size))
        return images.astype(np.uint8), np.arange(count)

    splits = {"train": arrays(train), "validation": arrays(test), "test": arrays(test)}
    return in_memory.InMemory("numbered", list(map(str, range(256))), splits)


def labels(pipeline, steps):
    return np.array([y.numpy() for _, y in pipeline.take(steps)])


def test_an_epoch_is_a_permutation_and_each_epoch_has_its_own():
    dataset = numbered()
    for batch_size in (1, 7, 10, 50):
        steps = dataset.steps_per_epoch(batch_size)
        drawn = labels(dataset.training(batch_size, seed=3), 2 * steps)
        first, second = drawn.reshape(2, -1)
        for epoch in (first, second):
            assert len(set(epoch)) == steps * batch_size
        assert not np.array_equal(first, second)
        assert not np.array_equal(first, np.sort(first))
    assert not np.array_equal(labels(dataset.training(50, seed=4), 1), first)


def test_over_the_epochs_every_image_is_seen_equally_often_at_every_place():
    drawn = labels(numbered(train=10).training(10), 2000)
    counts = np.array([np.bincount(place, minlength=10) for place in drawn.T])
    assert np.all(np.abs(counts - 200) < 5 * math.sqrt(200))


@pytest.mark.parametrize("augment", ["none", "crop"])
@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 40])
def test_any_step_is_reached_at_once_and_is_the_same(augment, start):
    dataset = data.synthetic((8, 8, 3), examples=50)
    kwargs = {"seed": 11, "augment": augment}
    whole = list(dataset.training(7, **kwargs).take(start + 3))[start:]
    skipped = dataset.training(7, **kwargs, start_step=start).take(3)
    for (x, y), (x_skipped, y_skipped) in zip(whole, skipped, strict=True):
        np.testing.assert_array_equal(x, x_skipped)
        np.testing.assert_array_equal(y, y_skipped)


def test_each_step_and_each_seed_draws_its_own_windows():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    arrays = np.repeat(image, 40, axis=0), np.zeros(40, np.uint8)
    dataset = in_memory.InMemory("same", ["one"], dict.fromkeys(datasets.SPLITS, arrays))
    batches = [x.numpy() for x, _ in dataset.training(20, seed=1).take(3)]
    batches += [x.numpy() for x, _ in dataset.training(20, seed=2).take(3)]
    assert len({batch.tobytes() for batch in batches}) == 6


def test_a_far_step_costs_no_more_than_the_first():
    x, _ = next(iter(numbered().training(5, start_step=10**12)))
    assert x.shape == (5, 6, 6, 1)


def test_the_global_seed_changes_nothing():
    drawn = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        drawn.append(next(iter(numbered().training(8)))[0].numpy())
    np.testing.assert_array_equal(*drawn)


def test_training_images_belong_to_their_labels_and_have_static_shapes():
    pipeline = numbered().training(8, augment="none")
    x, y = next(iter(pipeline))
    expected = np.broadcast_to(y.numpy().reshape(-1, 1, 1, 1) / 255, (8, 6, 6, 1))
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    assert pipeline.element_spec[0].shape == (8, 6, 6, 1)
    assert pipeline.element_spec[0].dtype == tf.float32
    assert pipeline.element_spec[1].dtype == tf.int32
    assert pipeline.cardinality() == tf.data.INFINITE_CARDINALITY


def test_images_are_resized_where_asked():
    for size in (3, 6, 17):
        pipeline = numbered().training(4, image_size=size, augment="none")
        assert pipeline.element_spec[0].shape == (4, size, size, 1)
        x, y = next(iter(pipeline))
        np.testing.assert_allclose(x[:, size // 2, 0, 0], y.numpy() / 255, rtol=1e-5)
        x, _ = next(iter(numbered().evaluation("test", 4, image_size=size)))
        assert x.shape == (4, size, size, 1)


def test_augmentation_crops_whitened_images_with_zeros_around():
    dataset = data.synthetic((8, 8, 1), examples=64)
    plain, augmented = (
        np.concatenate([x for x, _ in dataset.training(16, augment=a, preprocess="whiten").take(4)])
        for a in ("none", "crop")
    )
    assert plain.min() < 0 < plain.max()
    assert set(augmented[augmented != 0]) <= set(plain.ravel())
    assert (
        np.mean(augmented[:, 0] == 0) > 0.2
    )  # the window starts above the image a third of the time


@pytest.mark.parametrize("preprocess", ["scale", "whiten"])
def test_evaluation_gives_every_image_once_in_order(preprocess):
    dataset = numbered(size=(2, 3, 1))
    for split, count in dataset.examples.items():
        for batch_size in (1, 7, 23, 100):
            pipeline = dataset.evaluation(split, batch_size, preprocess=preprocess)
            drawn = np.concatenate([y for _, y in pipeline])
            np.testing.assert_array_equal(drawn, np.arange(count))
            assert pipeline.cardinality() == math.ceil(count / batch_size)


def test_training_under_a_strategy_divides_the_same_batches():
    strategy = training.strategy("mirrored")
    pipeline = numbered().training(8, seed=5)
    distributed = iter(strategy.experimental_distribute_dataset(pipeline))
    for _, y in pipeline.take(3):
        _, split = next(distributed)
        parts = strategy.experimental_local_results(split)
        assert [len(part) for part in parts] == [4, 4]
        np.testing.assert_array_equal(np.concatenate(parts), y)


def test_synthetic_follows_its_seed_and_its_shape():
    first, same, other = (data.synthetic((5, 4, 3), 7, 16, seed) for seed in (0, 0, 1))
    batches = [next(iter(d.evaluation("train", 16))) for d in (first, same, other)]
    np.testing.assert_array_equal(batches[0][0], batches[1][0])
    assert not np.array_equal(batches[0][0], batches[2][0])
    assert first.classes == 7
    assert first.image_shape == (5, 4, 3)
    assert first.examples == {"train": 16, "validation": 2, "test": 2}
    assert 0 <= batches[0][1].numpy().min() <= batches[0][1].numpy().max() < 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.training(0), "batch_size is 0; it must be an integer of at least 1"),
        (lambda d: d.training(-2), "batch_size is -2"),
        (lambda d: d.training(2.5), "batch_size is 2.5"),
        (lambda d: d.training(51), "batch_size is 51, but numbered has only 50 training images"),
        (lambda d: d.training(5, seed="a"), "seed is 'a'"),
        (lambda d: d.training(5, start_step=-1), "start_step is -1"),
        (lambda d: d.training(5, image_size=0), "image_size is 0"),
        (
            lambda d: d.training(5, preprocess="zca"),
            "preprocess is 'zca'; it must be one of none, scale, whiten",
        ),
        (
            lambda d: d.evaluation("train2", 5),
            "split is 'train2'; it must be one of train, validation",
        ),
        (lambda d: d.evaluation("test", 0), "batch_size is 0"),
        (lambda d: d.training(8, augment=True), "augment is True; it must be one of none, crop"),
        (lambda d: d.training(8, augment="resized_crop"), "has small images; use 'crop'"),
        (lambda d: data.synthetic(examples=0), "examples is 0"),
    ],
)
def test_bad_arguments_get_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(numbered())
    assert "\n" not in str(caught.value)
