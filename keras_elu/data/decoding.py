"""From records of a TFDS data set to images of one size, of which only what is seen is decoded.

Each function takes serialised examples (images,) and random numbers (images, `crops.DRAWS`), and
returns images (images, height, width, channels), uint8, and labels (images,). TensorFlow raises an
error if one image is damaged.
"""

from collections.abc import Callable

import tensorflow as tf

REDUCTIONS = (1, 2, 4, 8)  # of both sides, at which a JPEG can be decoded
JPEG = b"\xff\xd8\xff"  # as which one begins
_TEXT, _NUMBER = (tf.io.FixedLenFeature([], kind) for kind in (tf.string, tf.int64))
_ENCODED = {"image": _TEXT, "label": _NUMBER}
_RAW = {
    "image/value": _TEXT,
    "image/shape": tf.io.FixedLenFeature([3], tf.int64),
    "label": _NUMBER,
}


class Decoder:
    """Gives the crops of images.

    Args:
        shape: Height, width and channels of what it gives.
        crop: Gives windows of images of some shapes, by random numbers, as those of `crops`.
        mirror: Whether half of them are mirrored.
    """

    def __init__(self, shape: tuple[int, int, int], crop: Callable, mirror: bool):
        self._shape, self._crop, self._mirror = shape, crop, mirror

    def jpegs(self, records, draws):
        """Of JPEGs; at a half, a quarter or an eighth of their size where that is enough."""

        def decode(image, draws):
            encoded = image["image"]
            window = self._window(tf.io.extract_jpeg_shape(encoded), draws)
            ratios = tf.constant(REDUCTIONS)
            enough = tf.reduce_min(window[2:]) >= min(self._shape[:2]) * ratios
            level = tf.maximum(tf.reduce_sum(tf.cast(enough, tf.int32)) - 1, 0)
            window //= ratios[level]

            def at(ratio):
                return lambda: tf.io.decode_and_crop_jpeg(
                    encoded,
                    window,
                    channels=self._shape[-1],
                    ratio=ratio,
                    dct_method="INTEGER_ACCURATE",  # as other libraries; as fast
                )

            return tf.switch_case(level, [at(ratio) for ratio in REDUCTIONS])

        return self._images(records, draws, _ENCODED, decode)

    def any(self, records, draws):
        """Of any format that TensorFlow knows."""

        def decode(image, draws):
            channels = self._shape[-1]
            pixels = tf.io.decode_image(image["image"], channels, expand_animations=False)
            return self._cut(pixels, draws)

        return self._images(records, draws, _ENCODED, decode)

    def raw(self, records, draws):
        """Of pixels that are not encoded."""

        def decode(image, draws):
            pixels = tf.io.decode_raw(image["image/value"], tf.uint8)
            return self._cut(tf.reshape(pixels, image["image/shape"]), draws)

        return self._images(records, draws, _RAW, decode)

    def _window(self, shape, draws):
        return self._crop(tf.cast(shape, tf.int32)[tf.newaxis, :2], draws[tf.newaxis])[0]

    def _cut(self, pixels, draws):
        top, left, height, width = tf.unstack(self._window(tf.shape(pixels), draws))
        return pixels[top : top + height, left : left + width]

    def _images(self, records, draws, features, decode):
        examples = tf.io.parse_example(records, features)
        labels = tf.cast(examples.pop("label"), tf.int32)

        def one(row):
            image, draws = row
            pixels = tf.cast(decode(image, draws), tf.float32)  # resized twice as fast as uint8
            pixels = tf.cast(tf.image.resize(pixels, self._shape[:2]) + 0.5, tf.uint8)
            if self._mirror:
                turn = draws[-1] < 0.5
                pixels = tf.cond(turn, lambda: tf.reverse(pixels, [1]), lambda: pixels)
            return tf.ensure_shape(pixels, self._shape)

        # One after the other, so that what is decoded is in the cache when it is resized.
        signature = tf.TensorSpec(self._shape, tf.uint8)
        rows = examples, draws
        images = tf.map_fn(one, rows, parallel_iterations=1, fn_output_signature=signature)
        return images, labels
