"""Data sets too large for memory, or of varying image sizes: read from TFDS's files as needed."""

import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import tensorflow as tf

from keras_elu.data import crops, datasets, decoding
from keras_elu.data.records import Records

DEFAULT_SIZE = 224
CHUNK = 16  # images, at most, that are decoded by one call
QUIET = 0.1  # seconds without a call, after which there will be none
ATTEMPTS = 16  # images in a row, at most, that are tried in the place of a damaged one
_CROPS = {
    "none": lambda shapes, draws: crops.central(shapes),
    "crop": crops.random,
    "resized_crop": crops.random_resized,
}


class Streamed(datasets.Dataset):
    """A prepared TFDS data set that is decoded on the fly.

    Of a JPEG only the crop is decoded, at a half, quarter or eighth of its size if it still has
    `image_size` then. An epoch is one permutation of all images, each of which is read from its
    place: from a disk that is quick at that. Of several workers each reads only its own images.

    An image that cannot be read or decoded is named on stderr. In training the next one that can
    takes its place; in evaluation it is left out. If there are more than ten in a split, and than
    one in a thousand, the pipeline fails, and `failure` says why.

    Args:
        name: The name.
        builder: A prepared TFDS builder with the features `image` and `label`.
        splits: TFDS's split (`"train[:90%]"`) by split.
        mirror: Whether an image and its mirror image belong to one class.
    """

    divides = True

    def __init__(self, name: str, builder, splits: dict[str, str], *, mirror: bool = True):
        import tensorflow_datasets as tfds

        self._splits = {split: builder.info.splits[of] for split, of in splits.items()}
        examples = {split: info.num_examples for split, info in self._splits.items()}
        features = builder.info.features
        super().__init__(name, features["label"].num_classes, features["image"].shape, examples)
        self._mirror = mirror
        self._raw = not isinstance(features["image"], tfds.features.Image)
        self._sources = {}

    def _check(self, image_size, preprocess):
        super()._check(image_size, preprocess)
        if preprocess == "whiten":
            raise ValueError(
                f"preprocess is 'whiten', but {self.name} is not held in memory; use 'scale'."
            )

    def _training(
        self, batch_size, steps, seed, augment, image_size, preprocess, start_step, worker
    ):
        begin, end = _share(batch_size, worker)
        rows = slice(min(begin, batch_size - 1), max(end, begin + 1))

        def planned(step, indices):
            draws = tf.random.stateless_uniform((batch_size, crops.DRAWS), [seed, step])
            return indices[rows], draws[rows]

        plan = self._steps(batch_size, steps, seed, start_step).map(planned)
        source = self._source("train", image_size, augment)
        batches = _loaded(plan, source.training, source.shape)

        def finished(images, labels, _):
            batch = datasets.finish(images, labels, preprocess)
            return batch if worker[1] == 1 else (tf.constant(end - begin, tf.int64), batch)

        return batches.map(finished)

    def _evaluation(self, split, batch_size, image_size, preprocess, worker):
        examples = self.examples[split]
        firsts = range(0, examples, batch_size)
        rows = np.full((len(firsts), -(-batch_size // worker[1])), -1)
        for batch, first in enumerate(firsts):
            begin, end = _share(min(batch_size, examples - first), worker)
            rows[batch, : end - begin] = range(first + begin, first + end)
        plan = tf.data.Dataset.from_tensor_slices(rows).map(
            lambda rows: (rows, tf.zeros((*rows.shape, crops.DRAWS)))
        )
        source = self._source(split, image_size, "none")
        batches = _loaded(plan, source.evaluation, source.shape)

        def finished(images, labels, there):
            count = tf.math.count_nonzero(there)
            if worker[1] == 1:
                enough = tf.debugging.Assert(count > 0, ["all images of a batch are damaged"])
                with tf.control_dependencies([enough]):
                    there = tf.identity(there)
            else:  # where none is, one that does not count stands in
                there = tf.where(count > 0, there, tf.range(tf.size(there)) == 0)
            images, labels = tf.boolean_mask(images, there), tf.boolean_mask(labels, there)
            batch = datasets.finish(images, labels, preprocess)
            return batch if worker[1] == 1 else (count, batch)

        return batches.map(finished).apply(tf.data.experimental.assert_cardinality(len(firsts)))

    def _source(self, split: str, image_size: int | None, augment: str) -> "_Source":
        part = self._splits[split]
        if split not in self._sources:
            parts = [(file.skip, file.take) for file in part.file_instructions]
            records = Records([file.filename for file in part.file_instructions], parts)
            self._sources[split] = records, _Damages(records, self)
        size = image_size or DEFAULT_SIZE
        shape = size, size, self.image_shape[-1]
        mirror = self._mirror and augment != "none"
        decoder = decoding.Decoder(shape, _CROPS[augment], mirror)
        return _Source(*self._sources[split], decoder, shape, self._raw)


class _Source:
    """Images of one split.

    Args:
        records: Where they come from.
        damages: Is told of those that cannot be used.
        decoder: Makes images of records.
        shape: Of each image.
        raw: Whether they are stored as pixels.
    """

    def __init__(self, records, damages, decoder, shape, raw):
        self.shape = shape
        self._records, self._damages = records, damages
        ways = (decoder.raw,) if raw else (decoder.any,)
        if not raw and self._begins_with_a_jpeg():
            ways = decoder.jpegs, decoder.any
        # The first is for many images together, all are for one by itself. They are traced here,
        # for threads of a pipeline cannot safely do it at the same time.
        signature = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, crops.DRAWS], tf.float32)
        self._ways = [
            tf.function(way, autograph=False).get_concrete_function(*signature) for way in ways
        ]

    def training(self, indices: np.ndarray, draws: tf.Tensor):
        """Images, labels, and where they are; where one is damaged, the next one that is not."""

        def instead(index, draws):
            for following in range(index, index + ATTEMPTS):
                if found := self._decoded([following % len(self._records)], draws):
                    return found
            self._damages.fail(f"{ATTEMPTS} images in a row are damaged")

        return self._loaded(indices, draws, instead)

    def evaluation(self, indices: np.ndarray, draws: tf.Tensor):
        """Images, labels, and where they are, which is where none is damaged."""
        return self._loaded(indices, draws, lambda index, draws: self._decoded([index], draws))

    def _loaded(self, indices, draws, one):
        """All at once, or if one is damaged each by itself; nothing for the index -1."""
        rows = np.flatnonzero(indices >= 0)
        there = np.zeros(len(indices), bool)
        there[rows] = True
        found = self._decoded(indices[rows], draws.numpy()[rows]) if len(rows) else None
        if found and there.all():
            return *found, there
        images, labels = np.zeros((len(indices), *self.shape), np.uint8), np.zeros_like(indices)
        for place, row in enumerate(rows):
            if found:
                images[row], labels[row] = (part[place] for part in found)
            elif alone := one(int(indices[row]), draws[row : row + 1]):
                images[row], labels[row] = (part[0] for part in alone)
            else:
                there[row] = False
        return images, labels, there

    def _decoded(self, indices, draws) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Images and labels, or None if one of them is damaged."""
        records, draws = tf.constant(self._records.read(indices), tf.string), tf.constant(draws)
        for decode in self._ways if len(indices) == 1 else self._ways[:1]:
            with contextlib.suppress(tf.errors.OpError):
                return decode(records, draws)
        if len(indices) == 1:
            self._damages.found(int(indices[0]))
        return None

    def _begins_with_a_jpeg(self) -> bool:
        example = tf.train.Example.FromString(self._records.read(np.array([0]))[0])
        image = example.features.feature["image"].bytes_list.value
        return not image or image[0].startswith(decoding.JPEG)


class _Damages:
    """Names images that cannot be used, each once, up to a limit."""

    def __init__(self, records: Records, dataset: Streamed):
        self._records, self._dataset = records, dataset
        self._found = set()
        self._most = max(10, len(records) // 1000)

    def fail(self, reason: str) -> NoReturn:
        self._dataset.failure = f"{reason}: prepare {self._dataset.name} again."
        raise OSError(self._dataset.failure)

    def found(self, index: int) -> None:
        if self._dataset.failure:
            raise OSError(self._dataset.failure)
        if index in self._found:
            return
        self._found.add(index)
        if len(self._found) > self._most:
            last = self._records.name(index)
            self.fail(f"More than {self._most:,} images are damaged, the last one found is {last}")
        print(
            f"{self._records.name(index)} is damaged and is left out "
            f"({len(self._found):,} of at most {self._most:,})",
            file=sys.stderr,
            flush=True,
        )


class _Calls:
    """Counts the calls of Python from pipelines, and has them over before Python ends.

    A pipeline that still reads ahead then would wait for Python for ever, and Python for it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._running, self._last, self._ending = 0, 0.0, False
        atexit.register(self._end)

    def __enter__(self) -> bool:
        """Whether to do what is asked: if not, anything will do."""
        with self._lock:
            self._running += 1
            return not self._ending

    def __exit__(self, *_):
        with self._lock:
            self._running -= 1
            self._last = time.monotonic()

    def _end(self):
        """Returns when there has been no call for a moment, for then what is read ahead is full."""
        with self._lock:
            self._ending, self._last = True, max(self._last, time.monotonic() - QUIET / 2)
        while self._running or time.monotonic() - self._last < QUIET:
            time.sleep(QUIET / 10)


_calls = _Calls()


def _share(rows: int, worker: tuple[int, int]) -> tuple[int, int]:
    """The rows of a batch that belong to a worker."""
    number, workers = worker
    return rows * number // workers, rows * (number + 1) // workers


def _loaded(plan: tf.data.Dataset, load: Callable, shape: tuple[int, ...]) -> tf.data.Dataset:
    """Batches of images, labels and whether they are there.

    Args:
        plan: Batches of the numbers of images, and of random numbers for each.
        load: Makes, of some of them, what the batches have.
        shape: Of an image.
    """
    rows = plan.element_spec[0].shape[0]
    pieces = -(-rows // CHUNK)
    size = -(-rows // pieces)

    def cut(indices, draws):
        spare = [[0, pieces * size - rows]]
        indices = tf.pad(indices, spare, constant_values=-1)
        draws = tf.pad(draws, [*spare, [0, 0]])
        return tf.reshape(indices, (pieces, size)), tf.reshape(draws, (pieces, size, -1))

    def load_now(indices, draws):
        with _calls as go_on:
            if go_on:
                return load(indices.numpy(), draws)
            return np.zeros((size, *shape), np.uint8), np.zeros(size, int), np.zeros(size, bool)

    def load_piece(indices, draws):
        # In Python, which can catch the error of one image.
        return tf.py_function(load_now, [indices, draws], [tf.uint8, tf.int32, tf.bool])

    def joined(*parts):
        shapes = shape, (), ()
        return tuple(
            tf.reshape(part, (pieces * size, *shape))[:rows]
            for part, shape in zip(parts, shapes, strict=True)
        )

    return (
        plan.map(cut)
        .unbatch()
        .map(load_piece, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(pieces, drop_remainder=True)
        .map(joined)
    )
