"""Random crops, shifts and mirroring of whole batches, fast enough never to limit training."""

import tensorflow as tf


def crop_and_mirror(
    images: tf.Tensor, tops: tf.Tensor, lefts: tf.Tensor, mirrored: tf.Tensor, pad: int
) -> tf.Tensor:
    """Pads each image with `pad` zeros on every side, cuts out its own size, and mirrors some.

    Args:
        images: (batch, height, width, channels), height and width at least 2.
        tops, lefts: (batch,) integers from 0 to 2 * `pad`, the window's corner in the padded image.
        mirrored: (batch,) booleans, true where the window is flipped left to right.
        pad: Width of the border.

    Output shape:
        That of `images`, float32. Values are copied exactly.

    Example:

    >>> image = tf.reshape(tf.range(1, 10), (1, 3, 3, 1))
    >>> crop_and_mirror(image, [2], [1], [True], pad=1)[0, :, :, 0].numpy().astype(int).tolist()
    [[6, 5, 4], [9, 8, 7], [0, 0, 0]]
    """
    # One call of crop_and_resize at scale 1 is about twice as fast as gathering pixels. What lies
    # outside the image comes out as zero, so that nothing needs to be padded.
    height, width = images.shape[1:3]
    rows, columns = tf.cast(height - 1, tf.float32), tf.cast(width - 1, tf.float32)
    top = tf.cast(tops, tf.float32) - pad
    left = tf.cast(lefts, tf.float32) - pad
    bottom, right = top + rows, left + columns
    boxes = tf.stack(
        [
            top / rows,
            tf.where(mirrored, right, left) / columns,
            bottom / rows,
            tf.where(mirrored, left, right) / columns,
        ],
        axis=1,
    )
    # Drawn together about the centre by far less than half a pixel: rounding must not push the
    # outermost pixels outside, and "nearest" finds the same ones.
    boxes = 0.5 + (boxes - 0.5) * (1 - 0.1 / max(height, width))
    batch = tf.range(tf.shape(images)[0])
    return tf.image.crop_and_resize(images, boxes, batch, (height, width), method="nearest")


def pad_crop_flip(images: tf.Tensor, seed: tf.Tensor, pad: int, mirror: bool) -> tf.Tensor:
    """`crop_and_mirror` with offsets, and a coin for mirroring, drawn from `seed`.

    Args:
        images: (batch, height, width, channels).
        seed: Two integers; equal seeds give equal batches.
        pad: Width of the border.
        mirror: Whether half of the images are flipped left to right.
    """
    batch = images.shape[0]
    seeds = tf.random.split(seed, 2)
    tops, lefts = tf.unstack(
        tf.random.stateless_uniform((2, batch), seeds[0], 0, 2 * pad + 1, tf.int32)
    )
    mirrored = tf.random.stateless_uniform((batch,), seeds[1]) < (0.5 if mirror else 0.0)
    return crop_and_mirror(images, tops, lefts, mirrored, pad)


def alternating(indices: tf.Tensor, epoch: tf.Tensor, seed: int, count: int) -> tf.Tensor:
    """Returns which images are mirrored: each in every second epoch, half of them in the first.

    Args:
        indices: Numbers of the images, of any shape.
        epoch: Number of the epoch.
        seed: Decides which images are mirrored in the first epoch.
        count: Number of images in the data set.

    Reference:
        [Jordan, 2024](https://arxiv.org/abs/2404.00498), section 3.6.
    """
    coins = tf.random.stateless_uniform((count,), [seed, -1], 0, 2, tf.int32)
    return (tf.gather(coins, indices) + tf.cast(epoch % 2, tf.int32)) % 2 == 1


def mirror(images: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Flips images left to right.

    Args:
        images: (batch, height, width, channels).
        mirrored: (batch,) booleans, true where an image is flipped.
    """
    return tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def shift(images: tf.Tensor, seed: tf.Tensor, most: int) -> tf.Tensor:
    """Shifts each image by whole pixels along both sides, and reflects what it leaves empty.

    Args:
        images: (batch, height, width, channels).
        seed: Two integers; equal seeds give equal shifts.
        most: Largest shift, less than height and width.

    Output shape:
        That of `images`, with their type.
    """
    batch, height, width, _ = images.shape
    down, right = tf.unstack(
        tf.random.stateless_uniform((2, batch, 1), seed, -most, most + 1, tf.int32)
    )
    rows = _reflected(tf.range(height) + down, height)
    columns = _reflected(tf.range(width) + right, width)
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflected(places: tf.Tensor, size: int) -> tf.Tensor:
    """Places from outside 0 to `size - 1` mirrored at the first and the last."""
    return size - 1 - tf.abs(size - 1 - tf.abs(places))
