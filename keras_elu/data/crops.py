"""Which part of a photograph the network sees, as (top, left, height, width) in whole pixels."""

import math
from collections.abc import Sequence

Window = tuple[int, int, int, int]

SHARE = 224 / 256  # of the shorter side, that a crop of fixed scale has
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of crops of random scale
ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 2  # random numbers for an image: scales, and two for the place


def central(height: int, width: int, draws: Sequence[float] = (), share: float = SHARE) -> Window:
    """The square in the centre, with 7/8 of the shorter side.

    Args:
        height, width: Of the image.
        draws: Are not used.
        share: Of the shorter side.

    Example:

    >>> central(100, 64)
    (22, 4, 56, 56)
    """
    del draws
    side = _side(height, width, share)
    return _placed(height, width, side, side, (0.5, 0.5))


def random(height: int, width: int, draws: Sequence[float]) -> Window:
    """A square with 7/8 of the shorter side, anywhere; arguments as for `random_resized`."""
    side = _side(height, width, SHARE)
    return _placed(height, width, side, side, draws[-2:])


def random_resized(height: int, width: int, draws: Sequence[float]) -> Window:
    """A rectangle of 8% to 100% of the area and a ratio of the sides of 3/4 to 4/3, anywhere.

    Of ten sizes the first that the image can hold; if it can hold none, all of the image that has
    such a ratio, from its centre.

    Args:
        height, width: Of the image.
        draws: `DRAWS` numbers from 0 to below 1.

    Example:

    >>> random_resized(300, 400, [0.5] * DRAWS)
    (23, 73, 255, 255)

    Reference:
        [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6.
    """
    low, high = map(math.log, RATIO)
    for part, slant in zip(draws[:ATTEMPTS], draws[ATTEMPTS : 2 * ATTEMPTS], strict=True):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * part)
        ratio = math.exp(low + (high - low) * slant)
        tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 1 <= tall <= height and 1 <= wide <= width:
            return _placed(height, width, tall, wide, draws[-2:])
    tall, wide = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    return _placed(height, width, tall, wide, (0.5, 0.5))


def _side(height: int, width: int, share: float) -> int:
    return max(1, round(share * min(height, width)))


def _placed(height, width, tall, wide, place) -> Window:
    """A window of this size, at this part of what it can move."""
    return int(place[0] * (height - tall + 1)), int(place[1] * (width - wide + 1)), tall, wide
