"""Which part of a photograph the network sees."""

import math

import tensorflow as tf

SHARE = 224 / 256  # of the shorter side, that a crop of fixed scale has
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of crops of random scale
ATTEMPTS = 10
DRAWS = 2 * ATTEMPTS + 3  # random numbers for an image: scales, two for the place, one to mirror


def central(shapes: tf.Tensor) -> tf.Tensor:
    """The squares in the centre, with 7/8 of the shorter side.

    Args:
        shapes: (images, 2) integers, heights and widths.

    Output shape:
        (images, 4) integers: top, left, height, width.

    Example:

    >>> central(tf.constant([[100, 64]])).numpy().tolist()
    [[22, 4, 56, 56]]
    """
    return _placed(shapes, _squares(shapes), 0.5 * tf.ones([tf.shape(shapes)[0], 2]))


def random(shapes: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Squares with 7/8 of the shorter side, anywhere; arguments and result as `random_resized`."""
    return _placed(shapes, _squares(shapes), draws[:, -3:-1])


def random_resized(shapes: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Rectangles of 8% to 100% of the area and a ratio of the sides of 3/4 to 4/3, anywhere.

    Of ten sizes the first that the image can hold; if it can hold none, all of the image that has
    such a ratio, from its centre.

    Args:
        shapes: (images, 2) integers, heights and widths.
        draws: (images, `DRAWS`) numbers from 0 to below 1.

    Output shape:
        (images, 4) integers: top, left, height, width.

    Reference:
        [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6.
    """
    heights, widths = tf.unstack(tf.cast(shapes, tf.float32)[:, :, tf.newaxis], axis=1)
    areas = heights * widths * (AREA[0] + (AREA[1] - AREA[0]) * draws[:, :ATTEMPTS])
    low, high = map(math.log, RATIO)
    ratios = tf.exp(low + (high - low) * draws[:, ATTEMPTS : 2 * ATTEMPTS])
    tried_h, tried_w = tf.round(tf.sqrt(areas / ratios)), tf.round(tf.sqrt(areas * ratios))
    whole_h = tf.minimum(heights, tf.round(widths / RATIO[0]))
    whole_w = tf.minimum(widths, tf.round(heights * RATIO[1]))
    fits = (tried_h <= heights) & (tried_w <= widths) & (tried_h >= 1) & (tried_w >= 1)
    first = tf.argmax(tf.concat([fits, tf.ones_like(fits[:, :1])], 1), 1)  # the whole fits always
    sizes = tf.stack([tf.concat([tried_h, whole_h], 1), tf.concat([tried_w, whole_w], 1)], axis=-1)
    sizes = tf.cast(tf.gather(sizes, first, batch_dims=1), tf.int32)
    centred = tf.where(first[:, tf.newaxis] == ATTEMPTS, 0.5, draws[:, -3:-1])
    return _placed(shapes, sizes, centred)


def _squares(shapes: tf.Tensor) -> tf.Tensor:
    shorter = tf.cast(tf.reduce_min(shapes, 1), tf.float32)
    sides = tf.cast(tf.maximum(1.0, tf.round(SHARE * shorter)), tf.int32)
    return tf.stack([sides, sides], 1)


def _placed(shapes: tf.Tensor, sizes: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Windows of these sizes, at these parts of what they can move."""
    room = tf.cast(shapes - sizes, tf.float32)
    corners = tf.minimum(tf.floor(places * (room + 1)), room)
    return tf.concat([tf.cast(corners, tf.int32), sizes], 1)
