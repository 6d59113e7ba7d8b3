"""Data sets too large for memory, or of varying image sizes: read from TFDS's files as needed."""

import tensorflow as tf

from keras_elu.data import datasets

DEFAULT_SIZE = 224
RATIO = 256 / 224  # of the resized image's shorter side to the crop
BLOCK = 4096  # encoded images that are shuffled among themselves, on top of shuffling the files


class Streamed(datasets.Dataset):
    """A prepared TFDS data set that is decoded on the fly.

    Images are resized so that the shorter side is 8/7 of `image_size`. Training takes a random crop
    of that, mirrored half of the time; evaluation, and training without `augment`, the central one.
    In an epoch the files are shuffled, and then the images, block by block; to start at step n the
    records before it in its epoch are read, but not decoded.

    Args:
        name: The name.
        builder: A prepared TFDS builder with the features `image` and `label`.
        splits: TFDS's split (`"train[:90%]"`) by split.
        mirror: Whether an image and its mirror image belong to one class.
    """

    def __init__(self, name: str, builder, splits: dict[str, str], *, mirror: bool = True):
        self._splits = {split: builder.info.splits[of] for split, of in splits.items()}
        examples = {split: info.num_examples for split, info in self._splits.items()}
        features = builder.info.features
        super().__init__(name, features["label"].num_classes, features["image"].shape, examples)
        self._features = features
        self._mirror = mirror

    def _check(self, image_size, preprocess):
        super()._check(image_size, preprocess)
        if preprocess == "whiten":
            raise ValueError(
                f"preprocess is 'whiten', but {self.name} is not held in memory; use 'scale'."
            )

    def _training(self, batch_size, steps, seed, augment, image_size, preprocess, start_step):
        del preprocess
        count = steps * batch_size
        blocks_per_epoch = -(-self.examples["train"] // BLOCK)

        def epoch(number):
            records = self._records("train", order=[seed, number])
            blocks = records.batch(BLOCK).enumerate(number * blocks_per_epoch)
            return blocks.map(mix).unbatch().take(count).enumerate(number * count)

        def mix(index, block):  # Dataset.shuffle would depend on the global seed as well
            return tf.gather(block, datasets.shuffled(tf.size(block), [seed, index]))

        def decode(index, record):
            return self._decode(record, image_size, [seed, index] if augment else None)

        return (
            tf.data.Dataset.counter(start_step // steps)
            .flat_map(epoch)
            .skip(start_step % steps * batch_size)
            .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True)
            .map(_scale, num_parallel_calls=tf.data.AUTOTUNE)
        )

    def _evaluation(self, split, batch_size, image_size, preprocess):
        del preprocess
        pipeline = (
            self._records(split)
            .map(lambda r: self._decode(r, image_size), num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size)
            .map(_scale, num_parallel_calls=tf.data.AUTOTUNE)
        )
        batches = -(-self.examples[split] // batch_size)
        return pipeline.apply(tf.data.experimental.assert_cardinality(batches))

    def _records(self, split: str, order: list | None = None) -> tf.data.Dataset:
        """The split's serialised examples; its files in a random order where `order` is a seed."""
        parts = self._splits[split].file_instructions
        files = tf.constant([part.filename for part in parts])
        skips = tf.constant([part.skip for part in parts], tf.int64)
        takes = tf.constant([part.take for part in parts], tf.int64)

        indices = tf.data.Dataset.range(len(parts))
        if order is not None:
            indices = tf.data.Dataset.from_tensor_slices(datasets.shuffled(len(parts), order))

        def read(index):
            return tf.data.TFRecordDataset(files[index]).skip(skips[index]).take(takes[index])

        return indices.interleave(
            read,
            cycle_length=min(16, len(parts)),
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _decode(self, record, image_size, seed=None) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow_datasets as tfds

        size = image_size or DEFAULT_SIZE
        channels = self.image_shape[-1]
        if isinstance(self._features["image"], tfds.features.Image):
            skip = {"image": tfds.decode.SkipDecoding()}
            example = self._features.deserialize_example(record, decoders=skip)
            image = tf.io.decode_image(example["image"], channels=channels, expand_animations=False)
        else:  # pixels
            example = self._features.deserialize_example(record)
            image = example["image"]
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        shorter = float(round(size * RATIO))
        target = tf.maximum(tf.round(shape * (shorter / tf.reduce_min(shape))), shorter)
        image = tf.image.resize(image, tf.cast(target, tf.int32))
        if seed is None:
            image = tf.image.resize_with_crop_or_pad(image, size, size)
        else:
            seeds = tf.random.split(seed, 2)
            image = tf.image.stateless_random_crop(image, (size, size, channels), seeds[0])
            if self._mirror:
                image = tf.image.stateless_random_flip_left_right(image, seeds[1])
        return tf.ensure_shape(image, (size, size, channels)), tf.cast(example["label"], tf.int32)


def _scale(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return images / 255.0, labels
