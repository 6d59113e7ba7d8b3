"""The contestants of input.py: pipelines that yield batches, and the limit of decoding alone.

Each is a function of the folder of the data sets, the folder of the same images as files, and the
name of the data set; it returns an iterator that never ends.
"""

import concurrent.futures
import functools
import itertools
import math
import os
import pathlib
import random

import numpy as np

BATCH, SIZE = 64, 224
OURS = "keras_elu"
TFDATA, PIXELS = "tf.data", "tf.data, pixels"
DIRECTORY, TORCH = "image_dataset_from_directory", "PyTorch DataLoader"
PEERS = TFDATA, PIXELS, DIRECTORY, TORCH
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the pixels of ImageNet
LIMITS = "limit: simplejpeg", "limit: TensorFlow"


def batches_of_keras_elu(data_dir, folder, name):
    from keras_elu import data

    dataset = data.load(name, data_dir=data_dir)
    return iter(dataset.training(BATCH, augment="resized_crop", preprocess="none"))


def batches_of_tf_data(data_dir, folder, name, normalized=True):
    import tensorflow as tf

    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def image_and_label(record):
        parsed = tf.io.parse_single_example(record, features)
        encoded = parsed["image"]
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE))
        image = tf.image.random_flip_left_right(image)
        image = (image - MEAN) / DEVIATION if normalized else tf.cast(image, tf.uint8)
        return image, parsed["label"]

    files = sorted(map(str, pathlib.Path(data_dir, name).glob("*/*-train.tfrecord*")))
    dataset = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    dataset = dataset.shuffle(10_000).repeat().map(image_and_label, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = False
    options.threading.max_intra_op_parallelism = 1
    dataset = dataset.batch(BATCH, drop_remainder=True).prefetch(2)
    return iter(dataset.with_options(options))


def batches_from_directory(data_dir, folder, name):
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, verbose=False
    )

    def mirrored(images, labels):
        return tf.image.random_flip_left_right(images), labels

    return iter(dataset.map(mirrored, tf.data.AUTOTUNE).repeat().prefetch(2))


class Pictures:
    """A data set for PyTorch: a folder with one folder of JPEG files per class."""

    def __init__(self, folder):
        self.paths = sorted(pathlib.Path(folder).glob("*/*"))
        classes = sorted({path.parent for path in self.paths})
        self._labels = [classes.index(path.parent) for path in self.paths]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as opened:
            image = opened.convert("RGB")
        left, top, width, height = self._window(*image.size)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), self._labels[index]

    def _window(self, width, height):
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1.0)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if wide <= width and tall <= height:
                left, top = random.randint(0, width - wide), random.randint(0, height - tall)
                return left, top, wide, tall
        wide, tall = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        return (width - wide) // 2, (height - tall) // 2, wide, tall


class Endless:
    """Permutations of the first integers, one after the other."""

    def __init__(self, count):
        self._count = count

    def __iter__(self):
        while True:
            yield from random.sample(range(self._count), self._count)


def batches_of_pytorch(data_dir, folder, name):
    import torch

    pictures = Pictures(folder)
    loader = torch.utils.data.DataLoader(
        pictures,
        BATCH,
        sampler=Endless(len(pictures)),
        num_workers=len(os.sched_getaffinity(0)),
        drop_last=True,
    )
    return iter(loader)


def decoded(decode):
    """Returns a contestant that decodes whole photographs on all cores, a batch at a time."""

    def batches(data_dir, folder, name):
        encoded = [path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*/*"))]
        cores = len(os.sched_getaffinity(0))
        threads = concurrent.futures.ThreadPoolExecutor(cores)
        function = decode()

        def part(some):
            for each in some:
                function(each)

        for begin in itertools.cycle(range(0, len(encoded), BATCH)):
            batch = encoded[begin : begin + BATCH]
            list(threads.map(part, (batch[core::cores] for core in range(cores))))
            yield batch

    return batches


def by_simplejpeg():
    import threading

    import simplejpeg

    class Room(threading.local):
        def __init__(self):
            self.pixels = np.empty(2**26, np.uint8)

    room = Room()
    return lambda encoded: simplejpeg.decode_jpeg(encoded, "RGB", buffer=room.pixels)


def by_tensorflow():
    import tensorflow as tf

    return lambda encoded: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


KINDS = {
    OURS: batches_of_keras_elu,
    TFDATA: batches_of_tf_data,
    PIXELS: functools.partial(batches_of_tf_data, normalized=False),
    DIRECTORY: batches_from_directory,
    TORCH: batches_of_pytorch,
    **dict(zip(LIMITS, map(decoded, (by_simplejpeg, by_tensorflow)), strict=True)),
}
