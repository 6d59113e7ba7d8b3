"""The framing of TFRecord files: lengths and checksums of their records."""

import struct

import google_crc32c

HEADER, FOOTER = 12, 4  # bytes before and after a record's content: its length, and checksums


def length(header: bytes) -> int | None:
    """Returns the length of the record after a header; None if the header is damaged."""
    if len(header) < HEADER or header[8:] != checksum(header[:8]):
        return None
    return struct.unpack("<Q", header[:8])[0]


def checksum(held: bytes) -> bytes:
    """Returns the masked CRC-32C that follows a record's length, and its content."""
    crc = google_crc32c.value(held)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
