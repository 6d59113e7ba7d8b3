"""Damage within a JPEG that its decoder passes over: judged by what it does to the picture."""

import io

import numpy as np
import PIL.Image
import simplejpeg

from keras_elu.data import jpeg

_RUN = bytes(32)  # zeros: they are more than 100 blocks, or damage
_FLAT = 16  # neighbouring blocks of one colour that can give such a run
_END = b"\xff\xd9"
_BEFORE_END = "before marker 0xd9"


def is_suspect(encoded: bytes) -> bool:
    """Whether a JPEG has no end, or a run of zeros in its data: a matter of microseconds."""
    return encoded.rfind(_END) < 0 or encoded.find(_RUN, jpeg.header(encoded)) >= 0


def check(encoded: bytes, pixels: np.ndarray, said: str) -> None:
    """Checks the picture of a JPEG that could be decoded.

    After damage within the compressed data, a decoder loses its place: the rest of the picture, or
    of a restart interval, is shifted and miscoloured, and the data do not end where the picture
    does. Three signs tell this from the extra bytes at the end that some cameras write. Data are
    left over in the middle. A run of zeros, as disks and transfers leave it, is no flat part of the
    picture. Or blocks are brighter or darker than any picture allows.

    Args:
        encoded: The JPEG.
        pixels: The picture, (height, width, 3).
        said: What libjpeg remarked.

    Raises:
        Damaged: If the picture is wrong.
    """
    if jpeg.is_spare(said) and _BEFORE_END not in said:
        raise jpeg.Damaged(f"part of the picture is lost ({said})")
    begin, end = jpeg.scan(encoded)
    data = encoded[begin:end]
    if _RUN in data:
        without = data.rstrip(b"\0")
        if _is_whole(encoded[:begin] + without + _END):  # zeros at the end are extra bytes
            data = without
    if _RUN in data and (said or not _has_flat_part(pixels)):
        raise jpeg.Damaged("part of the picture is lost in zeros")
    if said and (share := _impossible(encoded)):
        raise jpeg.Damaged(f"{share:.1%} of the picture is impossibly bright or dark ({said})")


def _is_whole(encoded: bytes) -> bool:
    """Whether libjpeg finds all of the picture."""
    try:
        simplejpeg.decode_jpeg(encoded, "GRAY")
    except ValueError as error:  # also for a remark
        return not jpeg.is_damage(str(error))
    return True


def _has_flat_part(pixels: np.ndarray) -> bool:
    """Whether some neighbouring blocks of 8 x 8 pixels have the same single colour."""
    height, width, _ = pixels.shape
    blocks = pixels[: height // 8 * 8, : width // 8 * 8].reshape(height // 8, 8, width // 8, 8, 3)
    corners = blocks[:, :1, :, :1]
    flat = (blocks == corners).all((1, 3, 4)).ravel()
    same = flat[1:] & flat[:-1] & (corners.reshape(-1, 3)[1:] == corners.reshape(-1, 3)[:-1]).all(1)
    length = longest = 0
    for joined in same.tolist():
        length = length + 1 if joined else 0
        longest = max(longest, length)
    return longest + 1 >= _FLAT


def _impossible(encoded: bytes) -> float:
    """The share of blocks with a mean luminance outside of 0 to 255, before it is clipped.

    With a 1 in the place of the quantiser of the mean, a decoder gives the mean divided by it, so
    that values beyond the limits show.
    """
    changed, quantisers, table = bytearray(encoded), {}, 0
    for code, position in jpeg.markers(encoded):
        end = position + int.from_bytes(encoded[position : position + 2])
        if code in jpeg.FRAMES:
            table = encoded[position + 10]  # of the first component
        elif code == jpeg.QUANTISERS:
            position += 2
            while position < end:
                size = 2 if encoded[position] >> 4 else 1
                number, first = encoded[position] & 15, slice(position + 1, position + 1 + size)
                quantisers.setdefault(number, int.from_bytes(encoded[first]))
                changed[first] = (1).to_bytes(size)
                position += 1 + 64 * size
    with PIL.Image.open(io.BytesIO(changed)) as image:
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        means = np.asarray(image.convert("L")).astype(int)
    limit = 128 / quantisers[table] + 2  # rounding, by the encoder and by this decoder
    return float((np.abs(means - 128) > limit).mean())
