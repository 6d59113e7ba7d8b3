"""The paper's deep autoencoder, which compresses a digit to 30 numbers.

The loss is half the squared error, summed over the pixels.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 4.1.
"""

import dataclasses
import math
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data, models, training

# The paper trains for 500 epochs with learning rates of 0.01 and less. With this loss and these
# initial weights, training diverges above 0.001.
DEFAULTS = {
    "mnist": {"batch_size": 64, "learning_rate": 0.0003, "epochs": 30},
    "digits": {"batch_size": 64, "learning_rate": 0.001, "epochs": 100},
}
LEARNING_RATE_SCHEDULE = "constant"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration; this recipe adds no fields."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = models.mnist_autoencoder(
        input_shape=dataset.image_shape,
        activation=training.activation(config, steps),
        include_preprocessing=True,
    )
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps)),
        "loss": "mean_squared_error",
        # Turns the mean over the pixels, from 0 to 255, into half the sum over pixels from 0 to 1.
        # With the mean, the gradients are too small for plain SGD.
        "loss_weights": [math.prod(dataset.image_shape) / 2 / 255**2],
    }


def self_contained(config: Config, dataset: data.Dataset, network: keras.Model) -> keras.Model:
    """Returns the network, which takes and returns pixels from 0 to 255."""
    return keras.Model(network.inputs[0], network.outputs[0], name=network.name)


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str = "none"
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training, validation and test pipelines; the images are their own targets."""

    def reconstruct(images, labels):
        return images, tf.cast(images, tf.float32)

    return (
        dataset.training(
            config.batch_size,
            seed=config.seed,
            augment="none",
            preprocess=preprocess,
            start_step=start_step,
        ).map(reconstruct),
        dataset.evaluation("validation", config.batch_size, preprocess=preprocess).map(reconstruct),
        dataset.evaluation("test", config.batch_size, preprocess=preprocess).map(reconstruct),
    )
