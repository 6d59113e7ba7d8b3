"""JPEG files: their size, and damage that decoders pass over."""

import re
import struct
from collections.abc import Iterator

PIXELS = 2**28  # more than a header may claim: a gigabyte when decoded
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # all but those in compressed data
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_END = 0xD9
_SPARE = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker")


class Damaged(ValueError):
    """What is not an image, or not a whole one; the message says why."""


def is_damage(said: str) -> bool:
    """Whether what libjpeg says of an image means that it is not what it was."""
    return "Corrupt" in said and not is_spare(said)


def is_spare(said: str) -> bool:
    """Whether what libjpeg says of an image is that there are more bytes than it needs."""
    return bool(_SPARE.search(said))


def shortened(encoded: bytes, rows: int) -> bytearray:
    """Returns a JPEG whose header says that it has this number of rows, fewer than it holds.

    It is decoded as far as that; then libjpeg says that there are bytes to spare.

    Example:

    >>> encoded = tf.io.encode_jpeg(np.full((40, 60, 3), 200, np.uint8)).numpy()
    >>> tf.io.extract_jpeg_shape(bytes(shortened(encoded, 10))).numpy().tolist()
    [10, 60, 3]
    """
    place = next(end + 3 for code, end in _markers(encoded) if code in _FRAMES)
    changed = bytearray(encoded)
    changed[place : place + 2] = rows.to_bytes(2, "big")
    return changed


def jpeg_shape(encoded: bytes) -> tuple[int, int, int]:
    """Height, width and channels; the file is followed to its end, past those of thumbnails."""
    shape = None
    for code, position in _markers(encoded):
        if code == _END and shape:
            return shape
        if code in _FRAMES and len(encoded) >= position + 8:
            shape = struct.unpack_from(">HHB", encoded, position + 3)
    raise Damaged("it is truncated: the marker of its end is missing")


def _markers(encoded: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG, each with where it ends."""
    position = 2
    while marker := _MARKER.search(encoded, position):
        yield marker[1][0], marker.end()
        position = marker.end() + int.from_bytes(encoded[marker.end() : marker.end() + 2])
