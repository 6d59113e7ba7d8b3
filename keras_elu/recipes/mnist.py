"""The paper's fully connected network for digits, with 8 layers of 128 units.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 4.1.
"""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data, models, training

# The paper trains for 300 epochs with 0.01. Three times the rate needs fewer epochs.
DEFAULTS = {
    "mnist": {"batch_size": 64, "learning_rate": 0.03, "epochs": 30},
    "digits": {"batch_size": 64, "learning_rate": 0.03, "epochs": 50},
}
LEARNING_RATE_SCHEDULE = "constant"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration; this recipe adds no fields."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = models.mnist_mlp(
        input_shape=dataset.image_shape,
        classes=dataset.classes,
        activation=training.activation(config, steps),
        kernel_initializer="he_uniform",
    )
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps)),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def self_contained(
    config: Config, dataset: data.Dataset, network: keras.Model
) -> models.Classifier:
    """Returns the network as a model that takes pixels from 0 to 255."""
    scale = keras.layers.Rescaling(1 / 255, name="scale")
    return models.classifier(network, scale, **dataset.describe())


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str = "scale"
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training pipeline, from a given step on, and those of validation and test."""
    return (
        dataset.training(
            config.batch_size,
            seed=config.seed,
            augment="none",
            preprocess=preprocess,
            start_step=start_step,
        ),
        dataset.evaluation("validation", config.batch_size, preprocess=preprocess),
        dataset.evaluation("test", config.batch_size, preprocess=preprocess),
    )
