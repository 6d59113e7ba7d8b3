import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_elu import data

COUNT = {"train": 30, "validation": 11}


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """JPEGs of many sizes: number n is grey, 5 n, and if odd 100 brighter on its right half."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=30),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNT.items()}

    def _generate_examples(self, count):
        for n in range(count):
            height, width = 20 + 7 * (n % 5), 20 + 11 * (n % 3)
            image = np.full((height, width, 3), 5 * n, np.uint8)
            if n % 2:
                image[:, width // 2 :] += 100
            yield n, {"image": image, "label": n}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    builder = TinyPhotos(data_dir=folder)
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["train"].num_shards == 3
    return folder


def labels(pipeline, steps):
    return [y.numpy().tolist() for _, y in pipeline.take(steps)]


def test_a_set_of_varying_sizes_is_streamed_and_its_end_can_be_held_out(folder):
    dataset = data.load("tiny_photos", data_dir=folder)
    assert dataset.classes == 30
    assert dataset.image_shape == (None, None, 3)
    assert dataset.examples == {"train": 30, "validation": 11, "test": 11}
    held = data.load("tiny_photos", data_dir=folder, validation_examples=7)
    assert held.examples == {"train": 23, "validation": 7, "test": 11}
    parts = [np.concatenate([y for _, y in held.evaluation(s, 4)]) for s in ("train", "validation")]
    assert sorted(np.concatenate(parts)) == list(range(30))
    assert len(parts[1]) == 7


def test_evaluation_gives_every_image_once_and_its_centre(folder):
    pipeline = data.load("tiny_photos", data_dir=folder).evaluation("test", 4, image_size=16)
    assert pipeline.cardinality() == 3
    images, numbers = (np.concatenate(part) for part in zip(*pipeline, strict=True))
    assert images.shape == (11, 16, 16, 3)
    assert sorted(numbers) == list(range(11))
    for image, n in zip(images * 255, numbers, strict=True):
        np.testing.assert_allclose(image[:, :5], 5 * n, atol=6)
        np.testing.assert_allclose(image[:, -5:], 5 * n + 100 * (n % 2), atol=6)


def test_without_a_size_images_are_224_square(folder):
    pipeline = data.load("tiny_photos", data_dir=folder).training(2)
    assert pipeline.element_spec[0].shape == (2, 224, 224, 3)


def test_training_crops_and_mirrors_and_without_augment_does_neither(folder):
    dataset = data.load("tiny_photos", data_dir=folder)
    for augment in ("none", "crop", "resized_crop"):
        pipeline = dataset.training(30, image_size=16, augment=augment).take(20)
        mirrored = []
        for images, numbers in pipeline:
            assert images.shape == (30, 16, 16, 3)
            odd = images.numpy()[numbers.numpy() % 2 == 1].mean(axis=(1, 3))
            mirrored.append(odd[:, 0] > odd[:, -1])
        share = np.mean(mirrored)
        assert 0.4 < share < 0.6 if augment != "none" else share == 0


def test_epochs_are_permutations_and_any_step_can_be_reached(folder):
    dataset = data.load("tiny_photos", data_dir=folder)
    drawn = labels(dataset.training(7, seed=2, image_size=8), 12)
    epochs = [np.concatenate(drawn[i : i + 4]).tolist() for i in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 28
        assert epoch != sorted(epoch)
    assert epochs[0] != epochs[1] != epochs[2]
    for start in (0, 3, 4, 9):
        kwargs = {"seed": 2, "image_size": 8}
        whole = list(dataset.training(7, **kwargs).take(start + 2))[start:]
        skipped = dataset.training(7, **kwargs, start_step=start).take(2)
        for (x, y), (x_skipped, y_skipped) in zip(whole, skipped, strict=True):
            np.testing.assert_array_equal(y, y_skipped)
            np.testing.assert_array_equal(x, x_skipped)


def test_the_global_seed_changes_nothing(folder):
    dataset = data.load("tiny_photos", data_dir=folder)
    drawn = []
    for seed in (1, 2):
        tf.random.set_seed(seed)
        drawn.append(labels(dataset.training(7, image_size=8), 2))
    assert drawn[0] == drawn[1]


def test_whitening_is_refused(folder):
    dataset = data.load("tiny_photos", data_dir=folder)
    with pytest.raises(ValueError, match="tiny_photos is not held in memory; use 'scale'"):
        dataset.training(4, preprocess="whiten")
