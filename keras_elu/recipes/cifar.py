"""The paper's convolutional networks for small images.

Images are contrast-normalised and whitened (GCN and ZCA), padded, cropped and flipped.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), sections 4.2 and 4.3.
"""

import dataclasses
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_elu import data, models, training

DEFAULTS = {
    # 165,000 steps for 50,000 images, as in the paper. Set --learning_rate for elu_resnet.
    "cifar100": {"batch_size": 100, "learning_rate": 0.01, "epochs": 330},
    "digits": {"batch_size": 50, "learning_rate": 0.01, "epochs": 15},
}
LEARNING_RATE_SCHEDULE = "piecewise"
NETWORKS = {
    "elu_cifar_11": models.elu_cifar_11,
    "elu_cifar_18": models.elu_cifar_18,
    "elu_resnet": models.elu_resnet,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    network: Literal["elu_cifar_11", "elu_cifar_18", "elu_resnet"] = "elu_cifar_11"
    """The network: the paper's with 11 or 18 layers, or a residual one with 20."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = NETWORKS[config.network](
        input_shape=dataset.image_shape,
        classes=dataset.classes,
        activation=training.activation(config, steps),
        kernel_initializer="he_normal",
    )
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps), momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def self_contained(
    config: Config, dataset: data.Dataset, network: keras.Model
) -> models.Classifier:
    """Returns the network as a model that takes pixels from 0 to 255."""
    whitening = models.Whitening(name="whitening")
    model = models.classifier(network, whitening, **dataset.describe())
    whitening.set_weights(dataset.whitening)
    return model


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str = "whiten"
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training pipeline, from a given step on, and those of validation and test."""
    batch_size = config.batch_size
    return (
        dataset.training(
            batch_size, seed=config.seed, preprocess=preprocess, start_step=start_step
        ),
        dataset.evaluation("validation", batch_size, preprocess=preprocess),
        dataset.evaluation("test", batch_size, preprocess=preprocess),
    )
