"""Training images for each second of a core: this package's pipeline against its peers.

All make batches of images of 224 x 224 pixels, random resized crops of photographs, half of them
mirrored; of the photographs as they are, of the same with 256 pixels on the shorter side, and of
the pixels of those. The peers are tf.data as TensorFlow's Model Garden and the examples of flax
write it (TFRecord files, decoding of the crop alone, resize, normalisation), PyTorch's DataLoader
with Pillow and torchvision's transforms, and keras.utils.image_dataset_from_directory, which has no
crops: it shrinks whole photographs. All others give pixels, which an accelerator can normalise, and
so does a second contestant of tf.data. The limit is to decode the whole files with libjpeg-turbo,
on all cores, and nothing else.

Every contestant has a process of its own, and they take turns, so that one computes while all
others wait. The time is that of all cores, in the contestant's threads and child processes, in
user mode and in the kernel, from when it has filled what it reads ahead until it has again, so that
as many images are made as are taken. Ratios are medians over the rounds.

    KERAS_ELU_DATA=FOLDER python benchmarks/input.py

takes the photographs of FOLDER/imagenet_sample, or two of scikit-learn's without KERAS_ELU_DATA,
prints a table, and appends it as a JSON line to benchmarks/results/input.jsonl.
"""

import argparse
import concurrent.futures
import functools
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import random
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np
import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "input.jsonl"
BATCH, SIZE = 64, 224
TURN = 20  # batches that are timed, after as many that are not
OURS = "keras_elu"
TFDATA, PIXELS = "tf.data", "tf.data, pixels"
DIRECTORY, TORCH = "image_dataset_from_directory", "PyTorch DataLoader"
PEERS = TFDATA, PIXELS, DIRECTORY, TORCH
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet
LIMITS = "limit: simplejpeg", "limit: TensorFlow"
SETS = {"whole": "photographs", "256": "photographs_256", "256 raw": "photographs_256_raw"}
OPTIONS = {"whole": [], "256": ["--resize", "256"], "256 raw": ["--resize", "256", "--raw"]}


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
    """A data set for PyTorch, of a folder with a folder of JPEGs a class."""

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
    """One permutation of some numbers after another."""

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
    """Returns what makes an iterator over the photographs, in lists as long as a batch."""

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


def core_seconds():
    """Returns the time that this process and its children have had of all cores."""
    clocks = [(~child.pid << 3) | 2 for child in multiprocessing.active_children()]  # as glibc does
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def settle():
    """Waits until this process and its children have nothing to do, and returns `core_seconds`."""
    before = core_seconds()
    for _ in range(400):
        time.sleep(0.05)
        now = core_seconds()
        if now - before < 0.002:
            break
        before = now
    return now


def memory():
    """Returns the bytes that this process and its children hold; shared ones count once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    texts = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(1024 * int(text.split("Pss:")[1].split()[0]) for text in texts)


def turn(batches, count):
    """Takes batches, and returns seconds of cores, and of the clock, for each image."""
    begin = settle()
    for _ in range(count):
        next(batches)
    since = time.perf_counter()
    for _ in range(count):
        next(batches)
    elapsed = time.perf_counter() - since
    return (settle() - begin) / (2 * count * BATCH), elapsed / (count * BATCH)


def serve(pipe, kind, *where):
    """Takes a turn whenever the parent says so, and answers with what came of it, and memory."""
    batches = KINDS[kind](*where)
    pipe.send(next(batches) and "ready")
    try:
        while count := pipe.recv():
            pipe.send((*turn(batches, count), memory()))
    except EOFError:
        pass
    pipe.close()
    os._exit(0)  # what reads ahead would go on


def photographs(folder):
    """Makes a folder of photographs by class for `keras_elu.prepare`; returns where they are from.

    Their number is a multiple of a batch's, so that all contestants have the same epochs.
    """
    real = os.environ.get("KERAS_ELU_DATA")
    if real:
        paths = sorted((pathlib.Path(real) / "imagenet_sample").iterdir())
        origin = "imagenet_sample"
    else:
        import sklearn.datasets

        found = pathlib.Path(sklearn.datasets.__file__).parent / "images"
        paths = sorted(found.glob("*.jpg")) * (BATCH // 2)
        origin = "scikit-learn"
    for number, path in enumerate(paths[: len(paths) - len(paths) % BATCH]):
        place = folder / "train" / path.stem.partition("_")[0] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copytree(place.parent, folder / "val" / place.parent.name)
    return origin


def prepare(folder, files):
    """Prepares the sets of `files`, and for peers their images as files."""
    import tensorflow as tf

    from keras_elu.prepare.__main__ import main

    for each in files:
        command = [str(folder / "source"), str(folder / "data"), "--name", "photographs"]
        if main([*command, *OPTIONS[each]]):
            sys.exit("The photographs cannot be prepared.")
        if each == "256 raw":
            continue
        records = sorted(map(str, (folder / "data" / SETS[each]).glob("*/*-train.tfrecord*")))
        for number, record in enumerate(tf.data.TFRecordDataset(records)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            (label,) = features["label"].int64_list.value
            path = folder / SETS[each] / f"{label:04}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(features["image"].bytes_list.value[0])


def measure(folder, taking_part, rounds, count):
    """Returns a row for each contestant, with the seconds for an image in every round."""
    context = multiprocessing.get_context("spawn")
    pipes, rows = [], []
    for kind, files in taking_part:
        pipe, theirs = context.Pipe()
        where = str(folder / "data"), str(folder / SETS[files]), SETS[files]
        context.Process(target=serve, args=(theirs, kind, *where)).start()
        theirs.close()  # so that a process that died ends the wait for it
        pipes.append(pipe)
        rows.append({"contestant": kind, "files": files, "core seconds": [], "seconds": []})
    for pipe in pipes:
        pipe.recv()
    for number in tqdm.trange(1 + rounds, disable=None):
        for pipe, row in zip(pipes, rows, strict=True):
            pipe.send(count)
            core, clock, row["memory"] = pipe.recv()
            if number:  # tf.data is still finding out how far to read ahead
                row["core seconds"].append(core)
                row["seconds"].append(clock)
    for pipe in pipes:
        pipe.send(0)
    return rows


def ratio(row, others):
    """How many times as many images as the fastest of the others."""
    if not others:
        return None
    other = min(others, key=lambda row: statistics.median(row["core seconds"]))
    pairs = zip(other["core seconds"], row["core seconds"], strict=True)
    return statistics.median(b / a for b, a in pairs)


def report(rows):
    limits = [row for row in rows if row["contestant"] in LIMITS]
    peers = [row for row in rows if row["contestant"] in PEERS]
    print(f"\n{'images for each second of a core':<50}{'of decoding':>13}{'to the best peer':>21}")
    print(f"{'':<39}{'median [min, max]':<22}{'alone':>6}{'same files':>13}{'whole':>8}", end="")
    print(f"{'images/s':>10}{'GB':>6}")
    for row in rows:
        same = [
            [other for other in some if other["files"] == row["files"]] for some in (limits, peers)
        ]
        whole = [other for other in peers if other["files"] == "whole"]
        share, *ratios = (ratio(row, others) for others in (*same, whole))
        rates = [1 / seconds for seconds in row["core seconds"]]
        spread = f"{statistics.median(rates):,.0f} [{min(rates):,.0f}, {max(rates):,.0f}]"
        line = f"{row['files']:<9}{row['contestant']:<30}{spread:<22}"
        line += f"{share:>6.0%}" if share else f"{'':>6}"
        for width, value in zip((13, 8), ratios, strict=True):
            line += f"{value:>{width - 1}.2f}x" if value else " " * width
        line += f"{1 / statistics.median(row['seconds']):>10,.0f}{row['memory'] / 1e9:>6.2f}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="turns of 2 batches; print the JSON line, append nothing",
    )
    arguments = parser.parse_args()

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from keras_elu import environment

    taking_part = [
        (kind, files)
        for files in arguments.files
        for kind in ((OURS,) if files == "256 raw" else (*LIMITS, OURS, *PEERS))
    ]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        origin = photographs(folder / "source")
        prepare(folder, arguments.files)
        rows = measure(folder, taking_part, arguments.rounds, 2 if arguments.smoke else TURN)
    report(rows)
    record = environment.describe() | {
        "benchmark": "input",
        "photographs": origin,
        "batch": BATCH,
        "rows": rows,
    }
    if arguments.smoke:
        print(json.dumps(record))
    else:
        environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
