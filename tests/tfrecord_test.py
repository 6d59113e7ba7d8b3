import pytest
import tensorflow as tf

from keras_elu import tfrecord


@pytest.mark.parametrize("held", [b"", b"a", b"some bytes" * 1000])
def test_the_framing_is_that_of_tensorflow(held, tmp_path):
    path = tmp_path / "file"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(held)
    content = path.read_bytes()
    header, footer = content[: tfrecord.HEADER], content[-tfrecord.FOOTER :]
    assert len(content) == tfrecord.HEADER + len(held) + tfrecord.FOOTER
    assert tfrecord.length(header) == len(held)
    assert tfrecord.checksum(held) == footer
    assert tfrecord.checksum(header[:8]) == header[8:]


def test_a_damaged_header_has_no_length(tmp_path):
    header = (5).to_bytes(8, "little")
    header += tfrecord.checksum(header)
    assert tfrecord.length(header) == 5
    assert tfrecord.length(header[:-1]) is None
    assert tfrecord.length(b"") is None
    for bit in range(8 * len(header)):
        damaged = bytearray(header)
        damaged[bit // 8] ^= 1 << bit % 8
        assert tfrecord.length(bytes(damaged)) is None


def test_the_checksum_is_the_published_masked_crc32c():
    # CRC-32C of "123456789" is e3069283 (RFC 3720); rotated right by 15 bits, plus a282ead8.
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert tfrecord.checksum(b"123456789") == ((rotated + 0xA282EAD8) % 2**32).to_bytes(4, "little")
