"""Data sets too large for memory, or of varying image sizes: read from TFDS's files as needed."""

import atexit
import collections
import concurrent.futures
import functools
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import tensorflow as tf

from keras_elu import system
from keras_elu.data import crops, datasets, decoding
from keras_elu.data.jpeg import Damaged
from keras_elu.data.records import Records

DEFAULT_SIZE = 224
PART = 16  # images, at most, that a thread takes at a time
ALIGNMENT = 64  # bytes
KEPT = 8  # batches whose memory is kept for reuse
QUIET = 0.1  # seconds without a call, after which none will come
ATTEMPTS = 16  # images in a row that are tried to replace a damaged one
_CROPS = {
    "none": crops.central,
    "crop": crops.random,
    "resized_crop": crops.random_resized,
    "trivial": crops.random_resized,
}


class Streamed(datasets.Dataset):
    """A prepared TFDS data set that is decoded on the fly.

    A JPEG is decoded at a half, a quarter or an eighth of its size if the crop is still at least
    `image_size`. An epoch is one permutation of all images, so the disk must be fast at random
    reads. Each worker reads only its own images.

    An image that cannot be read or decoded is named on stderr. In training, the next intact image
    replaces it; in evaluation it is left out. If more than ten images of a split, and more than one
    in a thousand, are damaged, the pipeline fails, and `failure` says why.

    Args:
        name: The name.
        builder: A prepared TFDS builder with the features `image` and `label`.
        splits: TFDS's split (`"train[:90%]"`) by split.
        mirror: Whether an image and its mirror image belong to one class.
    """

    crop = crops.SHARE
    divides = True

    def __init__(self, name: str, builder, splits: dict[str, str], *, mirror: bool = True):
        import tensorflow_datasets as tfds

        self._splits = {split: builder.info.splits[of] for split, of in splits.items()}
        examples = {split: info.num_examples for split, info in self._splits.items()}
        features = builder.info.features
        super().__init__(name, features["label"].names, features["image"].shape, examples)
        self._stored_classes = self.classes  # `relabel` leaves the files as they are
        self.held_out = splits.get("validation") != splits.get("test")
        self._mirror = mirror
        self._raw = not isinstance(features["image"], tfds.features.Image)
        self._readers = {}

    def _size(self, image_size):
        if image_size is None and None in self.image_shape:
            image_size = DEFAULT_SIZE
        return super()._size(image_size)

    def _check(self, image_size, preprocess):
        super()._check(image_size, preprocess)
        if preprocess == "whiten":
            raise ValueError(
                f"preprocess is 'whiten', but {self.name} is not held in memory; use 'scale'."
            )

    def _training(self, options, rows):
        if options.augment not in _CROPS:
            raise ValueError(
                f"augment is {options.augment!r}, but {self.name} is not held in memory; use "
                "'crop'."
            )

        def planned(step, indices):
            draws = tf.random.stateless_uniform(
                (options.batch_size, decoding.DRAWS), [options.seed, step]
            )
            return indices[rows], draws[rows]

        plan = self._steps(options).map(planned)
        reader = self._reader("train", options.image_size, options.augment, options.erasing)
        batches = _loaded(plan, reader.training, reader.shape)
        return batches.map(lambda images, labels, _: (images, labels))

    def _evaluation(self, split, batch_size, image_size, preprocess, worker):
        del preprocess  # pixels as they are
        reader = self._reader(split, image_size, "none")
        batches = in_order(
            self.examples[split], batch_size, reader.evaluation, reader.shape, worker
        )

        def finished(images, labels, there):
            count = tf.math.count_nonzero(there)
            if worker[1] == 1:
                enough = tf.debugging.Assert(count > 0, ["all images of a batch are damaged"])
                with tf.control_dependencies([enough]):
                    there = tf.identity(there)
            else:  # an empty share gets one row that does not count
                there = tf.where(count > 0, there, tf.range(tf.size(there)) == 0)
            batch = tf.boolean_mask(images, there), tf.boolean_mask(labels, there)
            return batch if worker[1] == 1 else (count, batch)

        return batches.map(finished).apply(
            tf.data.experimental.assert_cardinality(-(-self.examples[split] // batch_size))
        )

    def _reader(
        self, split: str, image_size: int | None, augment: str, erasing: float = 0.0
    ) -> "_Reader":
        part = self._splits[split]
        if split not in self._readers:
            parts = [(file.skip, file.take) for file in part.file_instructions]
            records = Records([file.filename for file in part.file_instructions], parts)
            self._readers[split] = records, _Damages(records, self)
        decoder = decoding.Decoder(
            (*self._size(image_size), self.image_shape[-1]),
            _CROPS[augment],
            mirror=self._mirror and augment != "none",
            trivial=augment == "trivial",
            erasing=erasing,
        )
        return _Reader(*self._readers[split], decoder, self._stored_classes)


class _Reader:
    """Images of one split.

    Args:
        records: Where they come from.
        damages: Counts images that cannot be used.
        decoder: Makes images of records.
        classes: Number of classes. An image with another label counts as damaged.
    """

    def __init__(
        self, records: Records, damages: "_Damages", decoder: decoding.Decoder, classes: int
    ):
        self.shape = decoder.shape
        self._classes = classes
        self._records, self._damages, self._decoder = records, damages, decoder

    def training(self, index: int, draws: np.ndarray, image: np.ndarray) -> int:
        """Fills `image` with the first intact one from `index` on, and returns its label."""
        for following in range(index, index + ATTEMPTS):
            label = self.evaluation(following % len(self._records), draws, image)
            if label is not None:
                return label
        self._damages.fail(f"{ATTEMPTS} images in a row are damaged")

    def evaluation(self, index: int, draws: np.ndarray, image: np.ndarray) -> int | None:
        """Fills `image` and returns its label, or None if it is damaged."""
        try:
            label = self._decoder(self._records.read(index), draws, image)
        except Damaged:
            self._damages.found(index, "is damaged")
            return None
        if 0 <= label < self._classes:
            return label
        self._damages.found(index, f"has the label {label}, of {self._classes} classes,")
        return None


class _Damages:
    """Prints the names of images that cannot be used, each once, up to a limit."""

    def __init__(self, records: Records, dataset: Streamed):
        self._records, self._dataset = records, dataset
        self._found = set()
        self._lock = threading.Lock()
        self._most = max(10, len(records) // 1000)

    def fail(self, reason: str) -> NoReturn:
        self._dataset.failure = f"{reason}: prepare {self._dataset.name} again."
        raise OSError(self._dataset.failure)

    def found(self, index: int, what: str) -> None:
        if self._dataset.failure:
            raise OSError(self._dataset.failure)
        with self._lock:
            if index in self._found:
                return
            self._found.add(index)
            name, found = self._records.name(index), len(self._found)
            if found <= self._most:
                count = f"({found:,} of at most {self._most:,})"
                print(name, what, "and is left out", count, file=sys.stderr, flush=True)
                return
        self.fail(f"More than {self._most:,} images are left out, the last one is {name}, {what}")


class _Calls:
    """Counts calls from pipelines into Python, and completes them before Python exits.

    Otherwise a pipeline that still reads ahead and Python would wait for each other forever.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._running, self._last, self._ending = 0, 0.0, False
        atexit.register(self._end)

    def __enter__(self) -> bool:
        """Returns whether to do the work; while Python exits, any result will do."""
        with self._lock:
            self._running += 1
            return not self._ending

    def __exit__(self, *_):
        with self._lock:
            self._running -= 1
            self._last = time.monotonic()

    def _end(self):
        """Returns after a moment without calls, when nothing more is read ahead."""
        with self._lock:
            self._ending, self._last = True, max(self._last, time.monotonic() - QUIET / 2)
        while self._running or time.monotonic() - self._last < QUIET:
            time.sleep(QUIET / 10)


_calls = _Calls()


def in_order(
    count: int,
    batch_size: int,
    load: Callable,
    shape: tuple[int, ...],
    worker: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of images, labels and whether they are there, each image once and undistorted.

    All batches have the same size: rows that are left over in the last one are not there.

    Args:
        count: Number of images.
        batch_size: Number of images in a batch, of all workers together.
        load: Fills an image and returns its label, or None if it cannot; of its number, zeros as
            random numbers, and the image. Many threads call it.
        shape: Of an image.
        worker: The number of this worker, and how many there are.
    """
    firsts = range(0, count, batch_size)
    rows = np.full((len(firsts), -(-batch_size // worker[1])), -1)
    for batch, first in enumerate(firsts):
        begin, end = datasets.share(min(batch_size, count - first), worker)
        rows[batch, : end - begin] = range(first + begin, first + end)
    plan = tf.data.Dataset.from_tensor_slices(rows).map(
        lambda rows: (rows, tf.zeros((*rows.shape, decoding.DRAWS)))
    )
    return _loaded(plan, load, shape)


def _loaded(plan: tf.data.Dataset, load: Callable, shape: tuple[int, ...]) -> tf.data.Dataset:
    """Batches of images, labels and whether they are there.

    Args:
        plan: Batches of the numbers of images, and of random numbers for each.
        load: Fills an image and returns its label, or None if it cannot; of a number, such random
            numbers, and the image.
        shape: Of an image.
    """
    rows = plan.element_spec[0].shape[0]
    kinds = tf.uint8, tf.int32, tf.bool
    memory = _memory((rows, *shape))

    def batch(indices, draws):
        images = memory.take()
        labels, there = np.zeros(rows, np.int32), np.zeros(rows, bool)

        def part(numbers):
            for row in numbers:
                label = load(int(indices[row]), draws[row], images[row])
                if label is None:
                    images[row] = 0
                else:
                    labels[row], there[row] = label, True

        with _calls as go_on:
            if go_on:
                images[indices < 0] = 0
                wanted = np.flatnonzero(indices >= 0)
                size = min(PART, -(-rows // system.cores()))
                list(_threads().map(part, np.split(wanted, range(size, len(wanted), size))))
        return images, labels, there

    def loaded(indices, draws):
        found = tf.numpy_function(batch, [indices, draws], kinds)
        return tuple(
            tf.ensure_shape(tensor, (rows, *rest))
            for tensor, rest in zip(found, (shape, (), ()), strict=True)
        )

    # Two at a time, so that no thread waits for the last images of a batch.
    return plan.map(loaded, num_parallel_calls=2)


class _Memory:
    """Arrays of bytes of one shape, whose memory is reused once they are released.

    The operating system would have to clear new memory each time.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self._free = collections.deque(maxlen=KEPT)

    def take(self) -> np.ndarray:
        try:
            room = self._free.pop()
        except IndexError:
            room = _aligned(self._shape)
        array = room[:]
        weakref.finalize(array, self._free.append, room)  # TensorFlow, too, holds the array itself
        return array


# Shared by all pipelines, because TensorFlow never releases the functions of a pipeline.
_memory = functools.cache(_Memory)


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Bytes with the alignment that TensorFlow needs to use them without a copy."""
    size = math.prod(shape)
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size].reshape(shape)


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    """One for each core: 95% of their work is outside of Python."""
    return concurrent.futures.ThreadPoolExecutor(system.cores(), thread_name_prefix="decoding")
