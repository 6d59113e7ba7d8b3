"""The embedded data set: scikit-learn's 1,797 handwritten digits, as a TFDS builder."""

import numpy as np
import sklearn.datasets
import tensorflow_datasets as tfds

TEST_PER_CLASS = 36


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 grey images of 8x8 pixels in ten classes, prepared in seconds without a network.

    The test split is 36 images of each class, evenly spaced in scikit-learn's order; the other
    1,437 are for training. Pixels, 0 to 16 in scikit-learn, are scaled to 0 to 255. Images by one
    writer are in both splits.

    Reference:
        [Optical Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49), UCI Machine
        Learning Repository.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8x8 pixels, as scikit-learn carries them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        digits = sklearn.datasets.load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        labels = digits.target
        members = (np.flatnonzero(labels == label) for label in range(10))
        test = np.concatenate(
            [m[np.arange(TEST_PER_CLASS) * len(m) // TEST_PER_CLASS] for m in members]
        )
        train = np.setdiff1d(np.arange(len(labels)), test)
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(self, images, labels, indices):
        for index in indices:
            yield int(index), {"image": images[index], "label": int(labels[index])}
