"""PNG pictures of batches of images and of confusion matrices."""

import io
import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

_SIDE, _LARGEST = 96, 1024  # pixels: an image in a grid at least, a matrix at most
_TEXT = 14


def grid(images: np.ndarray, captions: Sequence[str] | None = None) -> bytes:
    """Returns images side by side, each with its caption below.

    Args:
        images: (N, height, width, channels): uint8 from 0 to 255, or floats from 0 to 1. An image
            with floats outside this range is scaled from its least value (black) to its greatest
            (white). With 3 channels an image is in colour; otherwise its first channel is shown.
        captions: One text for each image.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    factor = max(1, round(_SIDE / max(images.shape[1:3])))
    height, width = (factor * side for side in images.shape[1:3])
    below = _TEXT + 6 if captions else 0
    picture = PIL.Image.new("RGB", (columns * (width + 4), rows * (height + below + 4)), "white")
    draw, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(_TEXT)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        place = column * (width + 4) + 2, row * (height + below + 4) + 2
        shown = PIL.Image.fromarray(_visible(image)).resize((width, height), PIL.Image.NEAREST)
        picture.paste(shown, place)
        if captions:
            below_it = place[0], place[1] + height + 1
            draw.text(below_it, captions[number], fill="black", font=font)
    return _png(picture)


def confusion(counts: np.ndarray) -> bytes:
    """Returns a confusion matrix: a row for each true class, a column for each predicted one.

    Darker cells hold a greater share of their row. With up to 20 classes, cells show their counts.
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    from_white = (255 * (1 - shares[..., None] * np.array([1.0, 0.7, 0.3]))).astype(np.uint8)
    side = max(1, min(40, _LARGEST // len(counts)))
    size = (side * len(counts), side * len(counts))
    picture = PIL.Image.fromarray(from_white).resize(size, PIL.Image.NEAREST)
    if len(counts) > 20:
        return _png(picture)
    margin = 2 * _TEXT + 12
    framed = PIL.Image.new("RGB", (size[0] + margin, size[1] + margin), "white")
    framed.paste(picture, (margin, margin))
    draw, font = PIL.ImageDraw.Draw(framed), PIL.ImageFont.load_default(_TEXT)

    def write(place, text, fill="black"):
        draw.text(place, text, fill=fill, font=font, anchor="mm")

    write((margin + size[0] / 2, _TEXT / 2 + 2), "predicted")
    draw.text((2, 2), "class", fill="black", font=font)
    for i in range(len(counts)):
        middle = margin + side * (i + 0.5)
        write((middle, margin - _TEXT / 2 - 3), str(i))
        write((margin - _TEXT, middle), str(i))
        for j in np.flatnonzero(counts[i]):
            colour = "white" if shares[i, j] > 0.5 else "black"
            write((margin + side * (j + 0.5), middle), str(counts[i, j]), colour)
    return _png(framed)


def size(png: bytes) -> tuple[int, int]:
    """Returns width and height in pixels."""
    return PIL.Image.open(io.BytesIO(png)).size


def _visible(image: np.ndarray) -> np.ndarray:
    if image.shape[-1] != 3:
        image = image[..., 0]
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float32)
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        image = (image - low) / max(high - low, 1e-12)
    return np.round(255 * image).astype(np.uint8)


def _png(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
