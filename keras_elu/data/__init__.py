"""Data sets by name, as `tf.data` pipelines that are a pure function of (seed, step).

    dataset = keras_elu.data.load("cifar10", manual_dir="archives")
    training = dataset.training(batch_size=100, seed=1)  # (images, labels), without end
    testing = dataset.evaluation("test", batch_size=500)  # every image exactly once

`load(name, *, data_dir=None, manual_dir=None, validation_examples=None) -> Dataset`
    `name` is one of `names()`, any image-classification set of TensorFlow Datasets (TFDS), or one
    that `python -m keras_elu.prepare` has made of a folder of images or tars. It is
    read from `data_dir` (default: TFDS's own folder), where it is prepared first if need be:
    from the original archives in `manual_dir`, or by a download. `"digits"` needs neither. The
    last `validation_examples` of the training split are held out (default: digits 200, cifar10
    and cifar100 5,000, mnist and fashion_mnist 10,000, all others none). Raises `NotFound`, or
    another `ValueError`, with one sentence.

`synthetic(image_shape=(32, 32, 3), classes=10, examples=4096, seed=0) -> Dataset`
    Random images in memory, for benchmarks; `load("synthetic")` is `synthetic()`.

`is_prepared(name, data_dir=None) -> bool`
    Whether `load(name, data_dir=data_dir)` finds it, without a download or preparation.

`INSTRUCTIONS`
    How to train on the data sets of the paper, in words, by name.

`Dataset`
    `.name`; `.class_names`, in the order of the labels, and `.classes`, their number;
    `.image_shape`: (height, width, channels), height and width None where they vary; `.examples`:
    sizes by split, `{"train": ..., "validation": ..., "test": ...}`. `.relabel(class_names)` makes
    the labels those of a model with these classes, matching names.
    Where nothing is held out, "validation" is the data set's own validation split, or else the
    test split. For imagenet2012 and imagenette "test" is the published validation split.

    `.training(batch_size, *, seed=0, augment="crop", image_size=None, preprocess="scale",
    start_step=0)`
        Batches of float32 images (batch_size, height, width, channels) and int32 labels
        (batch_size,), of static shape, without end. An epoch is `.steps_per_epoch(batch_size)`
        steps and has its own permutation. The batch of step n is the same from any `start_step`.

    `.evaluation(split, batch_size, *, image_size=None, preprocess="scale")`
        Every image of the split exactly once, in a fixed order, in batches of `batch_size` and
        a last one of what is left. `.cardinality()` is known.

    `augment`: `"crop"` for a crop of the padded image (sets held in memory) or for a square of 7/8
    of the shorter side; `"resized_crop"` for a crop of 8% to 100% of the area (sets that are not);
    both mirrored half of the time (digits and MNIST: never); `"mirror"` for mirroring alone, and
    `"alternate"` for mirroring each image in every other epoch (sets held in memory); `"none"` for
    images as they are, or their centre.
    `image_size`: images are resized (bilinear) to this height and width; None: as stored, and
    224 where sizes vary. Channels are the data set's own: grey images have one.
    `preprocess`: `"scale"` for pixels / 255, `"none"` for uint8 pixels, or `"whiten"` for the
    paper's global contrast normalisation and ZCA (sets held in memory), fitted once and kept in
    `data_dir`.
"""

from keras_elu.data.datasets import Dataset
from keras_elu.data.fetching import NotFound
from keras_elu.data.in_memory import synthetic
from keras_elu.data.loading import INSTRUCTIONS, is_prepared, load, names

__all__ = ["INSTRUCTIONS", "Dataset", "NotFound", "is_prepared", "load", "names", "synthetic"]
