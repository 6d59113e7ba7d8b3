"""The paper's network for photographs, with 15 layers and spatial pyramid pooling.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 4.4.
"""

import dataclasses
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_elu import data, models, training

# The paper gives neither batch size nor learning rate for ImageNet, so these are our choice. The
# network for the digits is narrow: they are small and few.
DEFAULTS = {
    "imagenet2012": {"batch_size": 256, "learning_rate": 0.01, "epochs": 60, "width": 1.0},
    "digits": {
        "batch_size": 32,
        "learning_rate": 0.01,
        "epochs": 15,
        "image_size": 32,
        "width": 0.125,
    },
}
LEARNING_RATE_SCHEDULE = "cosine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    image_size: training.IntByDataset = None
    """Height and width of resized images, in pixels. None: as stored, or 224 if sizes vary."""
    width: training.FloatByDataset = None
    """Factor on the number of units of every hidden layer. The paper's network has 1."""
    augmentation: Literal["crop", "resized_crop"] = "crop"
    """crop: crops of one scale, as in the paper.
    resized_crop: crops of 8% to 100% of the area.
    Both also mirror half of the images."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    *size, channels = dataset.image_shape
    if config.image_size is not None:
        size = (config.image_size, config.image_size)
    model = models.elu_imagenet_15(
        input_shape=(*size, channels),  # None if sizes vary: the pyramid takes any size
        classes=dataset.classes,
        activation=training.activation(config, steps),
        width=config.width,
        include_preprocessing=True,  # the accelerator receives pixels as bytes
    )
    metrics = ["accuracy"]
    if dataset.classes >= 100:
        metrics += [keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5_accuracy")]
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps), momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": metrics,
    }


def self_contained(
    config: Config, dataset: data.Dataset, network: keras.Model
) -> models.Classifier:
    """Returns the network, which takes pixels from 0 to 255, with the names of its classes."""
    return models.classifier(network, **dataset.describe(config.image_size))


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str = "none"
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training pipeline, from a given step on, and those of validation and test."""
    batch_size = config.batch_size
    form = {"image_size": config.image_size, "preprocess": preprocess}
    return (
        dataset.training(
            batch_size,
            seed=config.seed,
            augment=config.augmentation,
            start_step=start_step,
            **form,
        ),
        dataset.evaluation("validation", batch_size, **form),
        dataset.evaluation("test", batch_size, **form),
    )
