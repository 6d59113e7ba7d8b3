"""Classifies photographs with the paper's network of 15 layers and a spatial pyramid.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 4.4.
"""

import dataclasses
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_elu import data, models, training

# The paper gives neither batch size nor learning rate for ImageNet: these are chosen. The digits
# are small and few, and so is their network.
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
    """What the recipe can be told, besides what all can."""

    image_size: training.IntByDataset = None
    """Height and width in pixels to which images are resized. None: as stored, 224 if they vary."""
    width: training.FloatByDataset = None
    """Factor on the units of every hidden layer; 1 is the paper's network."""
    augmentation: Literal["crop", "resized_crop"] = "crop"
    """The paper's crops of one scale, or crops of 8% to 100% of the area; both are mirrored."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    *size, channels = dataset.image_shape
    if config.image_size is not None:
        size = (config.image_size, config.image_size)
    model = models.elu_imagenet_15(
        input_shape=(*size, channels),  # None where it varies: the pyramid takes any size
        classes=dataset.classes,
        activation=training.activation(config, steps),
        width=config.width,
        include_preprocessing=True,  # so that pixels travel to the accelerator a byte each
    )
    metrics = ["accuracy"]
    if dataset.classes >= 100:
        metrics += [keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5_accuracy")]
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps), momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": metrics,
    }


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the pipelines of training, from a step on, validation and test."""
    batch_size, pixels = config.batch_size, {"image_size": config.image_size, "preprocess": "none"}
    return (
        dataset.training(
            batch_size,
            seed=config.seed,
            augment=config.augmentation,
            start_step=start_step,
            **pixels,
        ),
        dataset.evaluation("validation", batch_size, **pixels),
        dataset.evaluation("test", batch_size, **pixels),
    )
