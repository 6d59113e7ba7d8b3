"""From a record of a TFDS data set to an image of one size, in NumPy and libjpeg-turbo.

A JPEG is decoded down to the bottom of the crop, and at a half, a quarter or an eighth of its size
if the crop is large enough. Three quarters of the time go into the compressed bits, which must be
read from the first one on. `tf.io.decode_and_crop_jpeg`, which also skips pixels above and next to
the crop, has an older libjpeg-turbo: on photographs of ImageNet's size it is slower overall.
"""

import io
import threading
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf
from google.protobuf import message as protobuf
from PIL import Image

from keras_elu.data import crops, distortions
from keras_elu.data.jpeg import PIXELS, Damaged, is_damage, is_spare, shortened

REDUCTIONS = (8, 4, 2)  # of both sides, at which a JPEG can be decoded quickly
MARGIN = 2  # pixels around it, from which colours are interpolated
DRAWS = crops.DRAWS + 1 + distortions.DRAWS  # random numbers for an image: crop, mirror, the rest
_SPACES, _MODES = {1: "GRAY", 3: "RGB"}, {1: "L", 3: "RGB", 4: "RGBA"}  # by channels

cv2.setNumThreads(1)  # images are resized at the same time, each by one thread


class Decoder:
    """Makes images of records, of encoded images, or of pixels.

    Args:
        shape: Height, width and channels (1, 3 or 4) of the images.
        crop: One of the functions of `crops`.
        mirror: Whether half of the images are mirrored.
        trivial: Whether TrivialAugment changes them.
        erasing: The share of images of which a part is erased.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        crop: Callable[[int, int, Sequence[float]], crops.Window],
        mirror: bool,
        trivial: bool = False,
        erasing: float = 0.0,
    ):
        self.shape = shape
        self._crop, self._mirror, self._trivial, self._erasing = crop, mirror, trivial, erasing

    def __call__(self, record: bytes, draws: np.ndarray, image: np.ndarray) -> int:
        """Fills `image`, of the shape, and returns the label.

        Args:
            record: A serialised example, with an encoded image, or with pixels.
            draws: `DRAWS` numbers from 0 to below 1.

        Raises:
            Damaged: If it is not that.
        """
        try:
            features = tf.train.Example.FromString(record).features.feature
            label = features["label"].int64_list.value[0]
            if "image/value" in features:
                shape = features["image/shape"].int64_list.value
                stored = np.frombuffer(features["image/value"].bytes_list.value[0], np.uint8)
                stored = stored.reshape(shape)
            else:
                stored = features["image"].bytes_list.value[0]
        except (ValueError, IndexError, protobuf.DecodeError) as error:
            raise Damaged(str(error)) from error
        self.fill(image, stored, draws)
        return label

    def fill(self, image: np.ndarray, stored: bytes | np.ndarray, draws: np.ndarray) -> None:
        """Fills `image`, of the shape.

        Args:
            image: Is filled.
            stored: An encoded image, or pixels (height, width, channels).
            draws: `DRAWS` numbers from 0 to below 1.

        Raises:
            Damaged: If the encoded image is damaged.
        """
        draws = draws.tolist()
        if isinstance(stored, bytes):
            part = self._decoded(stored, draws)
        else:
            top, left, height, width = self._crop(*stored.shape[:2], draws[: crops.DRAWS])
            part = stored[top : top + height, left : left + width]
        self._transform(part, draws[crops.DRAWS :], image)

    def _decoded(self, encoded: bytes, draws: Sequence[float]) -> np.ndarray:
        """The crop of an encoded image, at its size or smaller."""
        draws = draws[: crops.DRAWS]
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
        except ValueError:
            height = width = space = None
        if space not in ("YCbCr", "Gray", "RGB") or self.shape[-1] not in _SPACES:
            pixels = _any(encoded, self.shape[-1])
            top, left, height, width = self._crop(*pixels.shape[:2], draws)
            return pixels[top : top + height, left : left + width]
        if height * width > PIXELS:
            raise Damaged(f"it claims {width:,} x {height:,} pixels")
        window = top, left, tall, wide = self._crop(height, width, draws)
        fits = (n for n in REDUCTIONS if min(tall / self.shape[0], wide / self.shape[1]) >= n)
        reduction = next(fits, 1)
        rows = min(height, top + tall + MARGIN * reduction)
        try:
            upper = shortened(encoded, rows) if rows < height else encoded
            pixels = _pixels(upper, (rows, width), reduction, self.shape[-1])
        except ValueError as error:  # for a remark of libjpeg, too
            if is_damage(str(error)):
                raise Damaged(str(error)) from error
            pixels, reduction = _any(encoded, self.shape[-1]), 1
        top, left, tall, wide = (number // reduction for number in window)
        return pixels[top : top + tall, left : left + wide]

    def _transform(self, part: np.ndarray, draws: Sequence[float], image: np.ndarray) -> None:
        height, width, _ = self.shape
        cv2.resize(part, (width, height), dst=image, interpolation=cv2.INTER_LINEAR)
        if self._mirror and draws[0] < 0.5:
            cv2.flip(image, 1, dst=image)
        if self._trivial:
            image[...] = distortions.trivial_augment(image, draws[1:4])
        if draws[4] < self._erasing:
            distortions.erase(image, draws[5:])


def _pixels(
    encoded: bytes | bytearray, size: tuple[int, int], reduction: int, channels: int
) -> np.ndarray:
    """All pixels of a JPEG of this size, reduced, in memory that the thread reuses."""
    height, width = (-(-side // reduction) for side in size)
    least = {"min_height": height, "min_width": width} if reduction > 1 else {}
    room = _room.of(size[0] * size[1] * channels)
    try:
        return simplejpeg.decode_jpeg(encoded, _SPACES[channels], buffer=room, **least)
    except ValueError as error:
        if not is_spare(str(error)):  # all that libjpeg says is its first remark
            raise
    return room[: height * width * channels].reshape(height, width, channels)


class _Room(threading.local):
    """Memory that each thread reuses for decoding: new memory would take a quarter of the time."""

    most = 2**26  # bytes that are kept

    def __init__(self):
        self._kept = np.empty(0, np.uint8)

    def of(self, size: int) -> np.ndarray:
        if size > self.most:
            return np.empty(size, np.uint8)
        if size > len(self._kept):
            self._kept = np.empty(size, np.uint8)
        return self._kept


_room = _Room()


def _any(encoded: bytes, channels: int) -> np.ndarray:
    """All pixels of an image: a JPEG's by Pillow, others' by TensorFlow, as in TFDS."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > PIXELS:
                raise Damaged(f"it claims {image.width:,} x {image.height:,} pixels")
            if image.format in ("JPEG", "MPO"):
                pixels = np.asarray(image.convert(_MODES[channels]))
                return pixels.reshape(*pixels.shape[:2], channels)
        return tf.io.decode_image(encoded, channels, expand_animations=False).numpy()
    except Damaged:
        raise
    except Exception as error:  # Pillow and TensorFlow raise many kinds
        raise Damaged(str(error)) from error
