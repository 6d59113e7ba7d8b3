"""Shards of a prepared data set: TFRecord files that are complete or absent."""

import errno
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_elu import files
from keras_elu.data import jpeg
from keras_elu.prepare import images, sources

PROGRESS = "progress"  # folder inside the data set's, removed when it is complete
_EVERY = 0.25  # seconds between reports of progress


class Output(NamedTuple):
    """The data set that shards belong to: where it is written, and how.

    Attributes:
        folder: Where.
        labels: The names of the classes.
        shorter, raw, upright: As for `images.prepare`.
    """

    folder: pathlib.Path
    labels: tuple[str, ...]
    shorter: int | None
    raw: bool
    upright: bool = True

    def features(self):
        """Returns the features for TFDS: those of its imagenet2012, unless raw."""
        import tensorflow_datasets as tfds

        pixels = tfds.features.Tensor(shape=(None, None, 3), dtype=np.uint8, encoding="bytes")
        return tfds.features.FeaturesDict(
            {
                "image": pixels if self.raw else tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=self.labels),
                "file_name": tfds.features.Text(),
            }
        )


class Shard(NamedTuple):
    """The name of a file, and the images that it will hold."""

    name: str
    images: list[sources.Image]


def write(
    shard: Shard, output: Output, report: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """Writes a shard, and then a record of the result, which is also returned.

    Equal images give equal bytes.

    Args:
        shard: What to write.
        output: Where and how.
        report: Called now and then with the number of images done since the last call.

    Returns:
        Numbers of `images` and `bytes` written, and lists of file names and reasons: `left_out`,
        `converted` and `warnings`.

    Raises:
        OSError: If the disk is full, or an image cannot be read.
    """
    done = {"images": 0, "bytes": 0, "left_out": [], "converted": [], "warnings": []}
    # Named after the process: one whose parent was killed may still be writing for a moment.
    aside = output.folder / PROGRESS / f"{os.getpid()}-{shard.name}"
    reported, since = time.monotonic(), 0
    try:
        with tf.io.TFRecordWriter(os.fspath(aside)) as writer:
            for image in shard.images:
                file_name = f"{output.labels[image.label]}/{image.name}"
                try:
                    prepared = images.prepare(
                        image.read(), output.shorter, output.raw, output.upright
                    )
                except jpeg.Damaged as error:
                    done["left_out"].append([file_name, str(error)])
                else:
                    writer.write(record(prepared.image, image.label, image.name))
                    done["images"] += 1
                    if prepared.converted:
                        done["converted"].append([file_name, prepared.converted])
                    if prepared.warning:
                        done["warnings"].append([file_name, prepared.warning])
                since += 1
                if time.monotonic() > reported + _EVERY:
                    report(since)
                    reported, since = time.monotonic(), 0
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(aside)) from error
    report(since)
    done["bytes"] = aside.stat().st_size
    files.complete(aside, output.folder / shard.name)
    files.write_json(_done(shard, output), done)
    return done


def read_done(shard: Shard, output: Output) -> dict[str, Any]:
    """Returns what `write` returned; `{}` if the shard is not complete."""
    done = files.read_json(_done(shard, output))
    path = output.folder / shard.name
    return done if done and path.exists() and path.stat().st_size == done["bytes"] else {}


def explain(error: OSError) -> str:
    """Returns a sentence about an error that ends the work.

    Example:

    >>> explain(FileNotFoundError(2, "No such file or directory", "a.tar"))
    'a.tar: No such file or directory. Fix that, and run the same command to resume.'
    """
    return f"{error.filename}: {error.strerror}. Fix that, and run the same command to resume."


def record(image: bytes | np.ndarray, label: int, name: str) -> bytes:
    """Returns a serialised example with the features of an output, as TFDS reads it.

    TFDS itself takes a second to import, and writes the features in random order.
    """
    values = {
        "file_name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    if isinstance(image, np.ndarray):
        shape = tf.train.Int64List(value=image.shape)
        values["image/shape"] = tf.train.Feature(int64_list=shape)
        image, key = image.tobytes(), "image/value"
    else:
        key = "image"
    values[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    example = tf.train.Example(features=tf.train.Features(feature=values))
    return example.SerializeToString(deterministic=True)


def _done(shard: Shard, output: Output) -> pathlib.Path:
    return output.folder / PROGRESS / f"{shard.name}.json"
