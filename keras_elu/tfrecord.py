"""The framing of TFRecord files: lengths and checksums of their records."""

import struct

import google_crc32c

HEADER, FOOTER = 12, 4  # bytes before and after what a record holds: its length, and checksums


def length(header: bytes) -> int | None:
    """The length of the record behind a header; None if this is not one."""
    if len(header) < HEADER or header[8:] != checksum(header[:8]):
        return None
    return struct.unpack("<Q", header[:8])[0]


def checksum(held: bytes) -> bytes:
    """Returns what stands behind a record's length, and behind what it holds."""
    crc = google_crc32c.value(held)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
