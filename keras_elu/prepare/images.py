"""One encoded image: whether it is intact, and how it is stored."""

import functools
import io
import os
import re
import struct
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.ExifTags
import PIL.Image
import simplejpeg
import tensorflow as tf

from keras_elu.data import jpeg
from keras_elu.prepare import damage

LONGEST = 65_500  # pixels of a side that libjpeg writes
_FORMATS = ("WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_EXIF_WITHIN = 2**17  # bytes at the beginning of a file that is not a JPEG
# Formats that keep it elsewhere, as WebP and AVIF do. Pillow turns TIFFs itself.
_ELSEWHERE = re.compile(rb"\x89PNG|RIFF|....ftypavi[fs]", re.DOTALL)
_UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


class Prepared(NamedTuple):
    """An image as it is stored.

    Attributes:
        image: A JPEG, or pixels (height, width, 3).
        converted: Why it was converted, as "PNG" or "CMYK JPEG"; or "".
        warning: What libjpeg remarked, although all of it could be decoded; or "".
    """

    image: bytes | np.ndarray
    converted: str
    warning: str


def prepare(
    encoded: bytes, shorter: int | None = None, raw: bool = False, upright: bool = True
) -> Prepared:
    """Checks an image, and converts it to what is stored.

    An ordinary JPEG is stored unchanged, unless it is resized or turned upright. Other images
    become a JPEG of quality 95 with full chroma, resized ones a JPEG of quality 90 with subsampled
    chroma. The content decides on the format, not the file name. Of an animation, the first picture
    counts; transparency is dropped, as by TFDS.

    TensorFlow decodes JPEG and PNG, and Pillow all else. A JPEG is also refused if libjpeg remarks
    on missing data, or if `damage` finds that the picture is wrong. Extra bytes at the end, which
    some cameras write, are only a warning.

    Args:
        encoded: The content of a file.
        shorter: Length in pixels of the shorter side, 1 to 1024, of images that are larger. None:
            images keep their size.
        raw: Whether to return pixels.
        upright: Whether to turn an image upright as its EXIF orientation says. Otherwise an
            orientation is a warning.

    Raises:
        Damaged: If it is not a picture, is not whole, or claims more than 2**28 pixels.

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
    pixels, converted, warning = _decoded(encoded)
    turn = orientation(encoded)
    if turn != 1:
        if upright:
            pixels = np.ascontiguousarray(_UPRIGHT[turn](pixels))
            turned = f"turned upright by its EXIF orientation {turn}"
            converted = f"{converted}, {turned}" if converted else turned
        else:
            warning = warning or f"its EXIF orientation {turn} is not applied"
    smaller = resize(pixels, shorter) if shorter else pixels
    if raw:
        return Prepared(smaller, converted, warning)
    if smaller is not pixels:
        encoded = encode(smaller, quality=90, subsampling="4:2:0")
    elif converted:
        encoded = encode(pixels)
    return Prepared(encoded, converted, warning)


def decode(encoded: bytes) -> np.ndarray:
    """Returns the pixels (height, width, 3) of an image that `prepare` accepts, turned upright.

    Threads may call it at the same time, unlike `prepare`, which listens to stderr.

    Raises:
        Damaged: If it is not a picture, is not whole, or claims more than 2**28 pixels.
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        height, width, _ = jpeg.jpeg_shape(encoded)
    elif encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        height, width = _png_shape(encoded)
    else:
        return np.ascontiguousarray(_UPRIGHT[orientation(encoded)](_by_pillow(encoded)[0]))
    if height * width > jpeg.PIXELS:
        raise jpeg.Damaged(f"it claims {width:,} x {height:,} pixels")
    said = ""
    try:
        pixels = simplejpeg.decode_jpeg(encoded, "RGB")
    except ValueError as error:  # no JPEG, one of four colours, or a remark of libjpeg
        if jpeg.is_damage(str(error)):
            raise jpeg.Damaged(str(error)) from None
        said = str(error) if jpeg.is_spare(str(error)) else ""
        try:
            pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
        except tf.errors.OpError:
            raise jpeg.Damaged("it cannot be decoded") from None
    if encoded.startswith(b"\xff\xd8\xff"):
        damage.check(encoded, pixels, said)
    return np.ascontiguousarray(_UPRIGHT[orientation(encoded)](pixels))


def orientation(encoded: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none."""
    within = jpeg.header(encoded) if encoded.startswith(b"\xff\xd8\xff") else _EXIF_WITHIN
    if encoded.find(b"Exif\0\0", 0, within) < 0 and not _ELSEWHERE.match(encoded):
        return 1
    try:
        with warnings.catch_warnings(action="ignore"), PIL.Image.open(io.BytesIO(encoded)) as image:
            found = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is written by many, and often wrong
        return 1
    return found if found in _UPRIGHT else 1


def _decoded(encoded: bytes) -> tuple[np.ndarray, str, str]:
    """The pixels (height, width, 3), what was converted, and the decoder's warning."""
    if encoded.startswith(b"\xff\xd8\xff"):
        height, width, channels = jpeg.jpeg_shape(encoded)
        kind = "CMYK JPEG" if channels == 4 else ""
        # By default TensorFlow trades accuracy for speed, and is off by up to 22 of 255.
        decode = functools.partial(tf.io.decode_jpeg, dct_method="INTEGER_ACCURATE")
    elif encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        height, width = _png_shape(encoded)
        kind, decode = "PNG", tf.io.decode_png
    else:
        return *_by_pillow(encoded), ""
    if height * width > jpeg.PIXELS:
        raise jpeg.Damaged(f"it claims {width:,} x {height:,} pixels")
    tensor = tf.constant(encoded)  # TensorFlow starts here, with lines on stderr
    pixels, said = _listened_to(lambda: decode(tensor, channels=3).numpy())
    if jpeg.is_damage(said):
        raise jpeg.Damaged(said)
    if kind != "PNG":
        damage.check(encoded, pixels, said)
    return pixels, kind, said


def _by_pillow(encoded: bytes) -> tuple[np.ndarray, str]:
    if not encoded:
        raise jpeg.Damaged("it has 0 bytes, or is no file")
    if encoded.startswith(b"RIFF") and len(encoded) < 8 + int.from_bytes(encoded[4:8], "little"):
        raise jpeg.Damaged("it is truncated")  # libwebp would decode the rest as black
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            PIL.Image.open(io.BytesIO(encoded), formats=_FORMATS) as image,
        ):
            if image.width * image.height > jpeg.PIXELS:
                raise jpeg.Damaged(f"it claims {image.width:,} x {image.height:,} pixels")
            count = getattr(image, "n_frames", 1)
            kind = f"{image.format}, the first of {count} pictures" if count > 1 else image.format
            if image.mode.startswith("I;16"):
                grey = np.asarray(image).astype(np.uint16) >> 8
                return np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=-1), kind
            if image.mode in ("I", "F"):
                raise jpeg.Damaged(f"its pixels have 32 bits, in {image.format}")
            return np.asarray(image.convert("RGB")), kind
    except jpeg.Damaged:
        raise
    except PIL.UnidentifiedImageError:
        raise jpeg.Damaged(
            f"it is neither a JPEG nor a PNG, nor one of {', '.join(_FORMATS)}"
        ) from None
    except PIL.Image.DecompressionBombError as error:
        raise jpeg.Damaged(f"it claims too many pixels ({error})") from None
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # Pillow's readers raise many kinds
        raise jpeg.Damaged(f"it cannot be decoded ({error})") from None


def resize(pixels: np.ndarray, shorter: int) -> np.ndarray:
    """Shrinks an image until its shorter side has `shorter` pixels; never enlarges it.

    Antialiased Lanczos, after an integer reduction to at least three times the final size. On 336
    photographs this gives the pixels of Lanczos alone, in 3.5 ms each. Bicubic takes 2.6 ms and is
    45 dB away, a box filter 1.2 ms and 34 dB. Decoding at half the size is 31 dB away at worst,
    and rarely saves time.

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


def _listened_to(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, str]:
    """Returns the pixels, and the first line that libjpeg writes to stderr."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)  # the first line fits
    stderr = os.dup(2)
    os.dup2(writing, 2)
    try:
        pixels, failed = function(), False
    except tf.errors.ResourceExhaustedError as error:  # out of memory, not the image's fault
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
