"""Shards of a prepared data set: TFRecord files that are complete or not there."""

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

PROGRESS = "progress"  # the folder, inside the data set's, of all that goes when it is complete
_EVERY = 0.25  # seconds between two words on progress


class Recipe(NamedTuple):
    """What all shards of a data set have in common."""

    folder: pathlib.Path
    labels: tuple[str, ...]
    shorter: int | None
    raw: bool

    def features(self):
        """Returns the features, in terms of TFDS; those of its imagenet2012, unless raw."""
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
    """A file of a data set, and the images that belong into it."""

    name: str
    images: list[sources.Image]


def write(
    shard: Shard, recipe: Recipe, tell: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """Writes a shard and, as the last thing, what came of it, which is returned.

    Equal images give equal bytes.

    Args:
        shard: What to write.
        recipe: Where and how.
        tell: Called now and then with a number of images that are done.

    Returns:
        `images` and `bytes` that were written, and with the file names `left_out`, `converted` and
        `warnings`.

    Raises:
        OSError: If the disk is full, or an image cannot be read.
    """
    done = {"images": 0, "bytes": 0, "left_out": [], "converted": [], "warnings": []}
    # A process whose parent was killed may for a moment write beside another.
    aside = recipe.folder / PROGRESS / f"{os.getpid()}-{shard.name}"
    told, since = time.monotonic(), 0
    try:
        with tf.io.TFRecordWriter(os.fspath(aside)) as writer:
            for image in shard.images:
                file_name = f"{recipe.labels[image.label]}/{image.name}"
                try:
                    prepared = images.prepare(image.read(), recipe.shorter, recipe.raw)
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
                if time.monotonic() > told + _EVERY:
                    tell(since)
                    told, since = time.monotonic(), 0
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(aside)) from error
    tell(since)
    done["bytes"] = aside.stat().st_size
    files.complete(aside, recipe.folder / shard.name)
    files.write_json(_done(shard, recipe), done)
    return done


def read_done(shard: Shard, recipe: Recipe) -> dict[str, Any]:
    """Returns what `write` has returned; nothing if the shard is not complete."""
    done = files.read_json(_done(shard, recipe))
    path = recipe.folder / shard.name
    return done if done and path.exists() and path.stat().st_size == done["bytes"] else {}


def explain(error: OSError) -> str:
    """Returns a sentence on what ends the work.

    Example:

    >>> explain(FileNotFoundError(2, "No such file or directory", "a.tar"))
    'a.tar: No such file or directory. Once that is put right, the same command goes on.'
    """
    return f"{error.filename}: {error.strerror}. Once that is put right, the same command goes on."


def record(image: bytes | np.ndarray, label: int, name: str) -> bytes:
    """Returns a record with the features of a recipe, as TFDS reads it.

    Written by hand, as TFDS takes a second to import, and leaves their order to chance.
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


def _done(shard: Shard, recipe: Recipe) -> pathlib.Path:
    return recipe.folder / PROGRESS / f"{shard.name}.json"
