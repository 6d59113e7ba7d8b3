"""A network of keras.applications, to train or to fine-tune.

`--initial_weights imagenet` begins with the weights that keras.applications downloads.
"""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data, models, training

DEFAULTS = {
    "cifar100": {"batch_size": 64, "learning_rate": 0.01, "epochs": 10, "image_size": 96},
    "digits": {"batch_size": 32, "learning_rate": 0.01, "epochs": 5, "image_size": 32},
}
LEARNING_RATE_SCHEDULE = "cosine"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    network: str = "MobileNetV2"
    """Name of the network in keras.applications, such as ResNet50 or EfficientNetB0."""
    activation: str = "relu"
    """Activation in the place of the network's ReLUs, such as elu. relu: they stay."""
    image_size: training.IntByDataset = None
    """Height and width of resized images, in pixels. None: as stored, or 224 if sizes vary."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    activation = "relu"
    if config.activation != "relu":
        activation = training.activation(config, steps)
    model = _network(config, dataset, activation)
    return model, {
        "optimizer": keras.optimizers.SGD(training.learning_rate(config, steps), momentum=0.9),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }


def pretrained(config: Config, dataset: data.Dataset) -> keras.Model:
    """Returns the network with the weights of keras.applications for ImageNet.

    Raises:
        ValueError: With one sentence, if they cannot be downloaded.
    """
    try:
        return _network(config, dataset, "relu", weights="imagenet")
    except Exception as error:  # keras.utils.get_file raises plain exceptions
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"--initial_weights imagenet: the weights of {config.network} cannot be downloaded "
            f"({reason})."
        ) from None


def _network(config, dataset, activation, weights=None) -> keras.Model:
    height, width = dataset.describe(config.image_size)["image_size"]
    shape = (height, width, dataset.image_shape[-1])
    return models.application(config.network, shape, dataset.classes, activation, weights=weights)


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
        dataset.training(batch_size, seed=config.seed, start_step=start_step, **form),
        dataset.evaluation("validation", batch_size, **form),
        dataset.evaluation("test", batch_size, **form),
    )
