"""Mixup and CutMix: pairs of images, and of their labels, become two mixtures."""

import dataclasses

import tensorflow as tf

_NUMBERS = 5  # of a mixture: weight of the partner, and the window's top, left, bottom and right


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixes the images of each pair of rows, 2 n and 2 n + 1, of a batch.

    The batches of an epoch being a permutation, the pairs are random. A last row without partner
    stays as it is. Where both kinds are on, each pair has one of them.

    Args:
        mixup: Concentration of the beta distribution of a mean's weights; 0: none.
        cutmix: The same of the area that is not replaced by the partner's window; 0: none.

    Example:

    >>> images = tf.constant([0, 200], tf.uint8, (2, 1, 1, 1))
    >>> plan = tf.constant([[0.25, 0, 0, 0, 0]] * 2)
    >>> mixed, labels = Mixing(mixup=1.0).mixed(images, tf.one_hot([0, 1], 2), plan)
    >>> mixed.numpy().ravel().tolist(), labels.numpy().tolist()
    ([50, 150], [[0.75, 0.25], [0.25, 0.75]])

    Reference:
        [Zhang et al., 2017](https://arxiv.org/abs/1710.09412), section 2;
        [Yun et al., 2019](https://arxiv.org/abs/1905.04899), section 3.1.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def pairs(self, rows: slice, count: int) -> slice:
        """Returns `rows`, of a batch of `count`, and the partners of the first and the last."""
        return slice(rows.start - rows.start % 2, min(count, rows.stop + rows.stop % 2))

    def plan(self, rows: int, size: tuple[int, int], seed) -> tf.Tensor:
        """Returns what to do with each row of a batch: (rows, 5), for `mixed`.

        Args:
            rows: Number of rows.
            size: Height and width of the images.
            seed: Two integers.
        """
        pairs = -(-rows // 2)
        seeds = tf.random.split(seed, 3)
        by_mixup = self._beta(self.mixup, pairs, seeds[0])
        by_cutmix = self._beta(self.cutmix, pairs, seeds[1])
        coin, y, x = tf.unstack(tf.random.stateless_uniform((3, pairs), seeds[2]))
        cut = coin < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        height, width = (float(side) for side in size)
        # A window of the area that the weight says, anywhere, and cut off at the border.
        half = tf.sqrt(by_cutmix) / 2
        top, bottom = (_clipped(tf.round((y + sign * half) * height), height) for sign in (-1, 1))
        left, right = (_clipped(tf.round((x + sign * half) * width), width) for sign in (-1, 1))
        area = (bottom - top) * (right - left) / (height * width)
        weight = tf.where(cut, area, by_mixup)
        window = [tf.where(cut, side, 0.0) for side in (top, left, bottom, right)]
        return tf.repeat(tf.stack([weight, *window], 1), 2, 0)[:rows]

    def _beta(self, concentration, count, seed):
        if not concentration:
            return tf.zeros(count)
        one, other = tf.unstack(tf.random.stateless_gamma((2, count), seed, concentration))
        # Both may be too small for float32, where the concentration is small.
        return tf.where(one + other > 0, one / (one + other), tf.cast(one >= other, tf.float32))

    def mixed(
        self, images: tf.Tensor, labels: tf.Tensor, plan: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mixtures.

        Args:
            images: (rows, height, width, channels), of any type.
            labels: (rows, classes), the share of each class.
            plan: Of these rows, the first of which is the first of a pair.
        """
        rows = tf.shape(images)[0]
        numbers = tf.range(rows)
        partners = tf.bitwise.bitwise_xor(numbers, 1)
        partners = tf.where(partners < rows, partners, numbers)
        weight, top, left, bottom, right = tf.unstack(plan[:, :, None, None, None], _NUMBERS, 1)
        height, width = images.shape[1:3]
        y = tf.range(height, dtype=tf.float32)[:, tf.newaxis, tf.newaxis]
        x = tf.range(width, dtype=tf.float32)[tf.newaxis, :, tf.newaxis]
        inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        is_cut = bottom > 0
        share = tf.where(is_cut, tf.cast(inside, tf.float32), weight)
        pixels = tf.cast(images, tf.float32)
        pixels += share * (tf.gather(pixels, partners) - pixels)
        if images.dtype.is_integer:
            pixels = tf.round(pixels)
        labels += plan[:, :1] * (tf.gather(labels, partners) - labels)
        return tf.cast(pixels, images.dtype), labels


def _clipped(side, most):
    return tf.clip_by_value(side, 0.0, most)
