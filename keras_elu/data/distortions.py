"""Changes to one image that leave its class as it is: TrivialAugment and random erasing.

Images are (height, width, channels) of bytes, with one channel or three, and so are results.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

DRAWS = 8  # random numbers for an image: operation, strength and sign, and five to erase
_LEVELS = 31  # of strength, of which the first is none
_SHEAR, _SHIFT, _TURN, _ENHANCE = 0.99, 32, 135, 0.99  # at most: pixels, degrees, parts
_ERASED, _RATIO = (0.02, 0.33), (0.3, 1 / 0.3)  # area, and ratio of the sides
_GREY = 128


def _moved(*matrix):
    def move(image, level, sign):
        strength = level * sign
        numbers = [of(strength) if callable(of) else of for of in matrix]
        return image.transform(image.size, Image.Transform.AFFINE, numbers)

    return move


def _shear(strength):
    return _SHEAR * strength


def _shift(strength):
    return round(_SHIFT * strength)


def _enhanced(kind):
    return lambda image, level, sign: kind(image).enhance(1 + _ENHANCE * level * sign)


OPERATIONS = {
    "identity": lambda image, level, sign: image,
    "shear_x": _moved(1, _shear, 0, 0, 1, 0),
    "shear_y": _moved(1, 0, 0, _shear, 1, 0),
    "translate_x": _moved(1, 0, _shift, 0, 1, 0),
    "translate_y": _moved(1, 0, 0, 0, 1, _shift),
    "rotate": lambda image, level, sign: image.rotate(_TURN * level * sign),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 8 - round(6 * level)),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - round(256 * level)),
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
}


def trivial_augment(pixels: np.ndarray, draws: Sequence[float]) -> np.ndarray:
    """One of fourteen operations, with one of 31 strengths.

    Args:
        pixels: An image.
        draws: Three numbers from 0 to below 1.

    Example:

    >>> half_solarized = trivial_augment(np.array([[[10], [200]]], np.uint8), [11.5 / 14, 0.5, 0])
    >>> half_solarized.ravel().tolist()
    [10, 55]

    Reference:
        [Müller and Hutter, 2021](https://arxiv.org/abs/2103.10158), the wide space of table 1.
    """
    operation = list(OPERATIONS.values())[int(draws[0] * len(OPERATIONS))]
    level = int(draws[1] * _LEVELS) / (_LEVELS - 1)
    sign = -1 if draws[2] < 0.5 else 1
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(operation(image, level, sign)).reshape(pixels.shape)


def erase(pixels: np.ndarray, draws: Sequence[float]) -> None:
    """Turns a rectangle of 2% to 33% of the area grey, 128, in place.

    Args:
        pixels: An image.
        draws: Four numbers from 0 to below 1.

    Example:

    >>> pixels = np.zeros((10, 10, 1), np.uint8)
    >>> erase(pixels, [0.25, 0.5, 0, 0.99])  # 3 of 10 rows and columns, top right
    >>> int(pixels[:3, 7:].min()), int(pixels.sum()) == 9 * 128
    (128, True)

    Reference:
        [Zhong et al., 2017](https://arxiv.org/abs/1708.04896), algorithm 1.
    """
    height, width, _ = pixels.shape
    area = height * width * (_ERASED[0] + (_ERASED[1] - _ERASED[0]) * draws[0])
    low, high = map(math.log, _RATIO)
    ratio = math.exp(low + (high - low) * draws[1])
    tall = max(1, min(height, round(math.sqrt(area / ratio))))
    wide = max(1, min(width, round(math.sqrt(area * ratio))))
    top, left = int(draws[2] * (height - tall + 1)), int(draws[3] * (width - wide + 1))
    pixels[top : top + tall, left : left + wide] = _GREY
