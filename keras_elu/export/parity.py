"""Comparison of an exported file with the Keras model, on real images."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

DIFFERENCE = 1e-3  # of logits, as a share of the largest logit, without quantization
DECISIONS = 0.95  # share of equal decisions, with quantization


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far the logits of an exported file are from those of the Keras model.

    Args:
        images: Number of images.
        difference: The largest difference.
        scale: The largest logit of the Keras model.
        equal: Share of the images with the same most probable class.
        int8: Whether the file is quantized.
    """

    images: int
    difference: float
    scale: float
    equal: float
    int8: bool

    @property
    def ok(self) -> bool:
        """Whether the file is within its tolerance."""
        if self.int8:
            return self.equal >= DECISIONS
        return self.difference <= DIFFERENCE * self.scale

    @property
    def tolerance(self) -> str:
        """The tolerance in words."""
        if self.int8:
            return f"at least {DECISIONS:.0%} equal decisions"
        return f"a difference of at most {DIFFERENCE:g} of the largest logit"

    def __str__(self) -> str:
        return (
            f"{self.images:,} images: largest difference {self.difference:.2g} of logits up to "
            f"{self.scale:.3g}, {self.equal:.2%} equal decisions; tolerance: {self.tolerance}"
        )


def compare(
    run: Callable[[np.ndarray], np.ndarray],
    reference: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    int8: bool,
    batch_size: int = 32,
) -> Parity:
    """Compares the logits that two functions return for images.

    Of the images, the first one is a batch of its own, to see that batches may have any size.

    Args:
        run: The exported file.
        reference: The Keras model.
        images: (N, height, width, channels), pixels.
        int8: Whether the file is quantized.
        batch_size: Size of the other batches.

    Example:

    >>> images = np.ones((3, 2, 2, 1))
    >>> double = lambda pixels: 2 * pixels.reshape(len(pixels), -1)
    >>> compare(double, double, images, int8=False).ok
    True
    >>> compare(lambda pixels: 1.01 * double(pixels), double, images, int8=False).ok
    False
    """
    starts = [0, *range(1, len(images), batch_size), len(images)]
    batches = [images[a:b] for a, b in itertools.pairwise(starts)]
    logits, expected = (
        np.concatenate([np.asarray(function(batch), "float64") for batch in batches])
        for function in (run, reference)
    )
    difference = np.abs(logits - expected).max()
    return Parity(
        images=len(images),
        difference=float(np.nan_to_num(difference, nan=np.inf)),
        scale=float(np.abs(expected).max()),
        equal=float(np.mean(logits.argmax(-1) == expected.argmax(-1))),
        int8=int8,
    )
