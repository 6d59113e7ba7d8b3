"""One encoded image: whether it is intact, and how it is stored."""

import io
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.Image
import tensorflow as tf

from keras_elu.data import jpeg

LONGEST = 65_500  # pixels of a side that libjpeg writes


class Prepared(NamedTuple):
    """An image as it is stored.

    Attributes:
        image: A JPEG, or pixels (height, width, 3).
        converted: What it was, "PNG" or "CMYK JPEG", where it had to be converted; or "".
        warning: What libjpeg said of it, although all of it could be decoded; or "".
    """

    image: bytes | np.ndarray
    converted: str
    warning: str


def prepare(encoded: bytes, shorter: int | None = None, raw: bool = False) -> Prepared:
    """Checks an image, and makes of it what is stored.

    An ordinary JPEG stays as it is, unless it is made smaller; another image becomes a JPEG of
    quality 95 with its chroma in full, and a smaller one a JPEG of quality 90 with a quarter of
    it. What kind an image is, its content says.

    TensorFlow's decoder has the last word on whether a file is intact. It refuses one that ends too
    early, but where compressed data are missing or damaged in the middle it goes on, grey or
    shifted, and libjpeg's note on stderr is all that tells: that refuses an image too, unless it
    says that there were bytes to spare, as some cameras leave them. Damage that gives another valid
    image, as five of six single bits do within the compressed data, no decoder can see.

    Args:
        encoded: The content of a file.
        shorter: Pixels of the shorter side, 1 to 1024, where it is longer. None: as it is.
        raw: Whether to return pixels.

    Raises:
        Damaged: If it is not a JPEG or PNG, is not whole, or claims more than 2**28 pixels.

    Example:

    >>> encoded = encode(np.full((40, 60, 3), 200, np.uint8))
    >>> prepare(encoded).image == encoded
    True
    >>> prepare(encoded, shorter=20, raw=True).image.shape
    (20, 30, 3)
    >>> prepare(encoded[:-2])
    Traceback (most recent call last):
        ...
    keras_elu.data.jpeg.Damaged: it is truncated: the marker of its end is missing
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        height, width, channels = jpeg.jpeg_shape(encoded)
        converted = "CMYK JPEG" if channels == 4 else ""
    elif encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        height, width = _png_shape(encoded)
        converted = "PNG"
    else:
        raise jpeg.Damaged(
            "it is neither a JPEG nor a PNG" if encoded else "it has 0 bytes, or is no file"
        )
    if height * width > jpeg.PIXELS:
        raise jpeg.Damaged(f"it claims {width:,} x {height:,} pixels")
    # Accurate as other libraries decode: the default differs from them by up to 22 of 255.
    options = {} if converted == "PNG" else {"dct_method": "INTEGER_ACCURATE"}
    function = tf.io.decode_png if converted == "PNG" else tf.io.decode_jpeg
    tensor = tf.constant(encoded)  # TensorFlow starts here, which it comments on
    pixels, said = _decode(lambda: function(tensor, channels=3, **options).numpy())
    if jpeg.is_damage(said):
        raise jpeg.Damaged(said)
    smaller = resize(pixels, shorter) if shorter else pixels
    if raw:
        return Prepared(smaller, converted, said)
    if smaller is not pixels:
        encoded = encode(smaller, quality=90, subsampling="4:2:0")
    elif converted:
        encoded = encode(pixels)
    return Prepared(encoded, converted, said)


def resize(pixels: np.ndarray, shorter: int) -> np.ndarray:
    """Makes an image smaller, so that its shorter side has `shorter` pixels; never larger.

    Lanczos, antialiased, after a reduction by a whole number that leaves at least three times the
    pixels: on 336 photographs it gives the pixels of Lanczos alone, in 3.5 ms each. Bicubic is 45
    dB from them and takes 2.6 ms, a box 34 dB and 1.2 ms; to decode at half the size, where that is
    large enough, is 31 dB from them at worst, and saves nothing on most.

    Args:
        pixels: (height, width, 3), uint8.
        shorter: Pixels of the shorter side.

    Example:

    >>> resize(np.zeros((300, 450, 3), np.uint8), 256).shape
    (256, 384, 3)
    >>> resize(np.zeros((300, 450, 3), np.uint8), 512).shape
    (300, 450, 3)
    """
    height, width, _ = pixels.shape
    factor = shorter / min(height, width)
    if factor >= 1:
        return pixels
    size = max(shorter, round(width * factor)), max(shorter, round(height * factor))
    image = PIL.Image.fromarray(pixels)
    return np.asarray(image.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0))


def encode(pixels: np.ndarray, quality: int = 95, subsampling: str = "4:4:4") -> bytes:
    """Returns pixels (height, width, 3) as a JPEG.

    Raises:
        Damaged: If a side is longer than a JPEG's may be.

    Example:

    >>> encode(np.zeros((2, 2, 3), np.uint8))[:3]
    b'\\xff\\xd8\\xff'
    """
    if max(pixels.shape) > LONGEST:
        raise jpeg.Damaged(f"a side of {max(pixels.shape):,} pixels is too long for a JPEG")
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _png_shape(encoded: bytes) -> tuple[int, int]:
    if b"IEND" not in encoded[24:]:
        raise jpeg.Damaged("it is truncated: the chunk of its end is missing")
    width, height = struct.unpack_from(">II", encoded, 16)
    return height, width


def _decode(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, str]:
    """Returns the pixels, and the first line that libjpeg writes to stderr meanwhile."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)  # what does not fit into the pipe is lost, and not missed
    stderr = os.dup(2)
    os.dup2(writing, 2)
    try:
        pixels, failed = function(), False
    except tf.errors.ResourceExhaustedError as error:  # of memory, which is not the image's fault
        raise MemoryError(error.message) from error
    except tf.errors.OpError:
        pixels, failed = None, True
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = (pipe.read() or b"").decode(errors="replace").strip().partition("\n")[0]
    if failed:
        raise jpeg.Damaged(said or "it cannot be decoded")
    return pixels, said
