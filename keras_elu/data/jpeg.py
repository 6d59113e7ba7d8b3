"""JPEG files: their markers, their size, and the remarks of libjpeg."""

import re
import struct
from collections.abc import Iterator

PIXELS = 2**28  # more than a header may claim: a gigabyte when decoded
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # all but those in compressed data
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
QUANTISERS, _SCAN, _END = 0xDB, 0xDA, 0xD9
_SPARE = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker")


class Damaged(ValueError):
    """Raised for data that are not a complete image; the message says why."""


def is_damage(said: str) -> bool:
    """Whether a remark of libjpeg means that the image is damaged."""
    return "Corrupt" in said and not is_spare(said)


def is_spare(said: str) -> bool:
    """Whether a remark of libjpeg means trailing bytes that it does not need."""
    return bool(_SPARE.search(said))


def shortened(encoded: bytes, rows: int) -> bytearray:
    """Returns a JPEG whose header claims fewer rows than it holds.

    Decoding stops after these rows, and libjpeg remarks on trailing bytes.

    Example:

    >>> encoded = tf.io.encode_jpeg(np.full((40, 60, 3), 200, np.uint8)).numpy()
    >>> tf.io.extract_jpeg_shape(bytes(shortened(encoded, 10))).numpy().tolist()
    [10, 60, 3]
    """
    place = next(end + 3 for code, end in markers(encoded) if code in FRAMES)
    changed = bytearray(encoded)
    changed[place : place + 2] = rows.to_bytes(2, "big")
    return changed


def jpeg_shape(encoded: bytes) -> tuple[int, int, int]:
    """Height, width and channels, of the image itself rather than of a thumbnail."""
    shape = None
    for code, position in markers(encoded):
        if code == _END and shape:
            return shape
        if code in FRAMES and len(encoded) >= position + 8:
            shape = struct.unpack_from(">HHB", encoded, position + 3)
    raise Damaged("it is truncated: the marker of its end is missing")


def header(encoded: bytes) -> int:
    """The length of what precedes the first scan; 0 if there is none."""
    return next((position for code, position in markers(encoded) if code == _SCAN), 0)


def scan(encoded: bytes) -> tuple[int, int]:
    """Where the compressed data begin, after the header of the first scan, and where they end."""
    begin = 0
    for code, position in markers(encoded):
        if code == _SCAN and not begin:
            begin = position + int.from_bytes(encoded[position : position + 2])
        if code == _END and begin:
            return begin, position - 2
    return begin, len(encoded)


def markers(encoded: bytes) -> Iterator[tuple[int, int]]:
    """Yields the markers of a JPEG, each with the position after it."""
    position = 2
    while marker := _MARKER.search(encoded, position):
        yield marker[1][0], marker.end()
        position = marker.end() + int.from_bytes(encoded[marker.end() : marker.end() + 2])
