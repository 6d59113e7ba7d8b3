"""Streams of photographs against the pixels of the whole images, and with damages."""

import hashlib
import io
import os
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_elu import data, training
from keras_elu.data import crops, decoding, streamed
from keras_elu.prepare import shards

ROOT = pathlib.Path(__file__).parents[2]
COUNT, SIZE = 40, 48
PHOTOGRAPHS = sklearn.datasets.load_sample_images().images  # two of 427 x 640


def photograph(number):
    """A part of one of the photographs, from 40 pixels to 600."""
    dice = np.random.default_rng(number)
    height, width = 40 + 9 * number, 30 + 15 * number
    top, left = dice.integers(427 - height + 1), dice.integers(640 - width + 1)
    return PHOTOGRAPHS[number % 2][top : top + height, left : left + width]


def encoded(number, form):
    file = io.BytesIO()
    Image.fromarray(photograph(number)).save(
        file, form, **({"quality": 95} if form == "JPEG" else {})
    )
    return file.getvalue()


def write(folder, name, images, raw=False):
    """A prepared TFDS data set of encoded images, or of pixels, whose labels are their numbers."""
    folder = folder / name / "1.0.0"
    folder.mkdir(parents=True)
    output = shards.Output(folder, tuple(f"class {i:03}" for i in range(len(images))), None, raw)
    parts = np.array_split(np.arange(len(images)), 3)
    for number, part in enumerate(parts):
        path = folder / f"{name}-train.tfrecord-{number:05}-of-00003"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in part:
                writer.write(shards.record(images[index], index, f"{index}"))
    lengths = [len(part) for part in parts]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=output.features(),
        split_infos=[tfds.core.SplitInfo("train", lengths, 0)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    return tfds.builder_from_directory(folder)


def pipeline_of(builder):
    return streamed.Streamed("photographs", builder, dict.fromkeys(data.datasets.SPLITS, "train"))


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    images = [encoded(number, "JPEG") for number in range(COUNT)]
    return write(tmp_path_factory.mktemp("sets"), "photographs", images)


def resized(image, size):
    """Bilinear, in float64, with the centres of pixels at one half."""
    for axis in (0, 1):
        held = image.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * held / size - 0.5, 0, held - 1)
        low = np.minimum(place.astype(int), held - 1)
        part = np.expand_dims(place - low, (1 - axis, 2))
        high = np.minimum(low + 1, held - 1)
        image = np.take(image, low, axis) * (1 - part) + np.take(image, high, axis) * part
    return image


def whole(number):
    """All pixels of a JPEG, from another decoder."""
    return np.asarray(Image.open(io.BytesIO(encoded(number, "JPEG"))), np.float64)


def smaller(image, ratio):
    """The means of squares of pixels."""
    height, width = (side // ratio for side in image.shape[:2])
    image = image[: height * ratio, : width * ratio]
    return image.reshape(height, ratio, width, ratio, 3).mean((1, 3))


@pytest.mark.parametrize("augment", ["crop", "resized_crop"])
def test_training_images_are_crops_of_the_whole_ones(builder, augment):
    """Within 1 of 255 where the JPEG is decoded at its size; else 2 on average."""
    pipeline = pipeline_of(builder).training(
        COUNT, seed=3, augment=augment, image_size=SIZE, preprocess="none", start_step=2
    )
    images, labels = next(iter(pipeline))
    assert images.dtype == tf.uint8
    assert sorted(labels.numpy()) == list(range(COUNT))
    draws = tf.random.stateless_uniform((COUNT, decoding.DRAWS), [3, 2]).numpy().tolist()
    crop = {"crop": crops.random, "resized_crop": crops.random_resized}[augment]
    ratios = set()
    for image, number, own in zip(images.numpy(), labels.numpy(), draws, strict=True):
        pixels = whole(number)
        window = np.array(crop(*pixels.shape[:2], own[: crops.DRAWS]))
        ratio = max(r for r in (1, 2, 4, 8) if r == 1 or min(window[2:]) >= r * SIZE)
        top, left, height, width = window // ratio
        crop_of_whole = smaller(pixels, ratio)[top : top + height, left : left + width]
        wanted = resized(crop_of_whole, SIZE)
        difference = np.abs(image - (wanted[:, ::-1] if own[crops.DRAWS] < 0.5 else wanted))
        if ratio == 1:
            assert difference.max() <= 1
        else:
            assert difference.mean() <= 2
        ratios.add(ratio)
    assert {1, 2, 4} <= ratios


def test_images_of_other_formats_are_decoded_too(tmp_path):
    forms = ["PNG", "JPEG", "BMP", "GIF"]
    images = [encoded(number, forms[number % 4]) for number in range(COUNT)]
    pipeline = pipeline_of(write(tmp_path, "mixed", images)).evaluation("test", 16, image_size=SIZE)
    found, labels = (np.concatenate(part) for part in zip(*pipeline, strict=True))
    assert labels.tolist() == list(range(COUNT))
    for image, number in zip(found, labels, strict=True):
        if number % 2:  # a GIF has 256 colours, and other tests are of JPEGs
            continue
        pixels = photograph(number).astype(float)
        top, left, height, width = crops.central(*pixels.shape[:2])
        wanted = resized(pixels[top : top + height, left : left + width], SIZE) / 255
        assert np.abs(image - wanted).max() <= 1 / 255


def test_pixels_that_are_not_encoded_give_the_same_images(builder, tmp_path):
    pixels = [whole(number).astype(np.uint8) for number in range(COUNT)]
    raw = pipeline_of(write(tmp_path, "raw", pixels, raw=True))
    kwargs = {"seed": 4, "augment": "resized_crop", "image_size": 200, "preprocess": "none"}
    ((images, labels),) = raw.training(COUNT, **kwargs).take(1)
    ((of_jpegs, of_the_same),) = pipeline_of(builder).training(COUNT, **kwargs).take(1)
    np.testing.assert_array_equal(labels, of_the_same)
    np.testing.assert_array_equal(images, of_jpegs)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches_of_one(builder, workers):
    def batches(pipeline, steps):
        return [[part.numpy() for part in batch] for batch in pipeline.take(steps)]

    def of_workers(pipeline, steps):
        shares = []
        for number in range(workers):
            share = pipeline.of_worker(number, workers).take(steps)
            shares.append([(int(count), *map(np.array, batch)) for count, batch in share])
        for step in zip(*shares, strict=True):
            yield [np.concatenate([s[i][: s[0]] for s in step]) for i in (1, 2)]

    dataset = pipeline_of(builder)
    for pipeline, steps in (
        (dataset.training(10, seed=1, image_size=16, preprocess="none"), 6),
        (dataset.training(1, seed=1, image_size=16, preprocess="none"), 3),
        (dataset.evaluation("test", 13, image_size=16), -1),
    ):
        alone, together = batches(pipeline, steps), list(of_workers(pipeline, steps))
        assert len(alone) == len(together) > 0
        for one, other in zip(alone, together, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_two_epochs_interrupted_anywhere_have_the_images_of_the_uninterrupted(builder):
    dataset, steps = pipeline_of(builder), 2 * (COUNT // 8)

    def hashes(start):
        pipeline = dataset.training(
            8,
            seed=5,
            augment="trivial",
            erasing=0.5,
            mixup=0.2,
            cutmix=1.0,
            one_hot=True,
            image_size={0: 16, 3: 24, 7: 32},
            start_step=start,
        )
        for batch in pipeline.take(steps - start):
            yield hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()

    whole = list(hashes(0))
    assert len(set(whole)) == steps
    for start in range(1, steps):
        assert list(hashes(start)) == whole[start:]


def damage(builder, numbers):
    """Makes the JPEGs of these numbers unreadable: their records' bytes, or what those hold."""
    folder = pathlib.Path(builder.data_dir)
    for number in numbers:
        content = encoded(number, "JPEG")
        for path in folder.glob("*.tfrecord-*"):
            held = path.read_bytes()
            place = held.find(content[200:])
            if place >= 0:
                path.write_bytes(held[:place] + bytes([held[place] ^ 4]) + held[place + 1 :])


def test_damaged_images_are_named_and_no_good_one_is_lost(tmp_path, capfd):
    images = [encoded(number, "JPEG") for number in range(COUNT)]
    undecodable = {5: b"", 6: images[6][:300], 17: b"no image at all", 18: images[18][2:]}
    builder = write(
        tmp_path, "damaged", [undecodable.get(i, image) for i, image in enumerate(images)]
    )
    flipped = [30, 39]
    damage(builder, flipped)
    bad = {*undecodable, *flipped}
    dataset = pipeline_of(builder)
    found, labels = (
        np.concatenate(part)
        for part in zip(*dataset.evaluation("test", 7, image_size=16), strict=True)
    )
    assert labels.tolist() == [number for number in range(COUNT) if number not in bad]
    assert found.min(axis=(1, 2, 3)).shape == (COUNT - len(bad),)
    said = [line for line in capfd.readouterr().err.splitlines() if "record" in line]
    assert len(said) == len(bad)
    for number in bad:
        assert sum(
            f"record {number % 14 if number < 14 else (number - 14) % 13} of" in line
            for line in said
        )
    assert said[0].endswith("-of-00003 is damaged and is left out (1 of at most 10)")

    drawn = [y.numpy() for _, y in dataset.training(8, image_size=16).take(10)]
    assert {len(batch) for batch in drawn} == {8}
    for epoch in (np.concatenate(drawn[:5]), np.concatenate(drawn[5:])):
        assert set(epoch) == set(range(COUNT)) - bad
        twice = sorted(number for number in set(epoch) if (epoch == number).sum() > 1)
        assert twice == [0, 7, 19, 31]  # the next after each that is damaged
    assert capfd.readouterr().err.count("is damaged") == len(bad)  # training counts anew


def test_too_many_damages_end_a_run_with_a_sentence(tmp_path):
    images = [b"" if number % 3 else encoded(number, "JPEG") for number in range(COUNT)]
    dataset = pipeline_of(write(tmp_path, "damaged", images))
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(COUNT)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = training.DistributedModel(inputs, outputs)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(tf.errors.OpError):
        model.fit(dataset.training(8, image_size=16), steps_per_epoch=9, verbose=0)
    assert dataset.failure.startswith("More than 10 images are left out, the last one is")
    assert dataset.failure.endswith(": prepare photographs again.")


def test_a_process_that_still_reads_ahead_ends(builder):
    """Its threads would wait for Python, and Python for them."""
    script = """
import sys
import tensorflow_datasets as tfds
from keras_elu.data import streamed
builder = tfds.builder_from_directory(sys.argv[1])
dataset = streamed.Streamed("photographs", builder, {"train": "train"})
batches = iter(dataset.training(40, image_size=224))
next(batches)
"""
    command = [sys.executable, "-c", script, str(builder.data_dir)]
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_a_batch_keeps_its_pixels_for_as_long_as_anybody_holds_it(builder):
    """Memory is used again, but only that of batches which are gone."""
    kwargs = {"seed": 1, "image_size": 64, "preprocess": "none"}
    pipeline = pipeline_of(builder).training(8, **kwargs)
    held, copies, places = [], [], set()
    for step, (images, _) in enumerate(pipeline.take(60)):
        pixels = images.numpy()  # a view
        places.add(pixels.ctypes.data)
        if step % 5 == 0:
            held.append(pixels)
            copies.append(pixels.copy())
        del images, pixels
    np.testing.assert_array_equal(held, copies)
    assert len(held) == len({pixels.ctypes.data for pixels in held}) == 12
    assert len(places) < 30


def test_pipelines_that_are_no_longer_used_keep_no_memory_of_their_own(builder, monkeypatch):
    made = []
    aligned = streamed._aligned
    monkeypatch.setattr(streamed, "_aligned", lambda shape: made.append(shape) or aligned(shape))
    for _ in range(12):
        for _ in pipeline_of(builder).evaluation("test", 8, image_size=61):
            pass
    assert 0 < len(made) < 12


def resident():
    """Bytes of memory that this process has."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_memory_is_flat_over_twenty_epochs(builder):
    batches = iter(pipeline_of(builder).training(8, image_size=512, augment="resized_crop"))
    batch = 8 * 512 * 512 * 3 * 4  # bytes
    after = {}
    for epoch in range(1, 121):
        for _ in range(COUNT // 8):
            next(batches)
        after[epoch] = resident()
    assert after[120] - after[100] < batch / 2
    assert after[120] - after[5] < 3 * batch  # what is kept for other batches, and is soon full


def test_a_pipeline_reads_ahead_no_more_than_a_few_batches(builder, monkeypatch):
    read = []
    monkeypatch.setattr(
        streamed._Reader,
        "training",
        lambda self, index, draws, image, of=streamed._Reader.training: (
            read.append(index),
            of(self, index, draws, image),
        )[1],
    )
    batches = iter(pipeline_of(builder).training(8, image_size=16))
    taken = 3
    for _ in range(taken):
        next(batches)
    count = -1
    while count != len(read):
        count = len(read)
        time.sleep(0.5)
    # Those that wait, and two that would be begun when one of them is taken.
    assert count <= 8 * (taken + data.datasets.READ_AHEAD + 2)
