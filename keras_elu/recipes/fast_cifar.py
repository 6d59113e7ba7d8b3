"""CIFAR in a few epochs.

Patches of the images are whitened, convolutions start as the identity, batch normalisation comes
before the ELU, its biases learn fast, images are mirrored in every other epoch, and labels are
smoothed.

Reference: Jordan, 2024 (https://arxiv.org/abs/2404.00498), after
Page, 2019 (https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks).
"""

import dataclasses
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
import tyro

from keras_elu import data, models, training
from keras_elu.data import augmentation
from keras_elu.optimizers import ScaledSGD

DEFAULTS = {
    "cifar10": {
        "batch_size": 1000,
        "learning_rate": 1.5,
        "epochs": 18,
        "widths": "64,256,384",
        "convolutions": 2,
        "temperature": 9.0,
        "bias_learning_rate": 64.0,
    },
    "cifar100": {
        "batch_size": 1000,
        "learning_rate": 1.25,
        "epochs": 18,
        "widths": "128,384,768",
        "convolutions": 3,
        "temperature": 6.0,
        "bias_learning_rate": 32.0,
    },
    "digits": {
        "batch_size": 50,
        "learning_rate": 0.5,
        "epochs": 8,
        "widths": "16,32,64",
        "convolutions": 2,
        "temperature": 9.0,
        "bias_learning_rate": 16.0,
    },
}
LEARNING_RATE_SCHEDULE = "knots"
_KNOTS = "0.2,1,0.6667,0.3333,0"  # up to the peak in a quarter of the steps, then down to zero
_FITTED = 5_000  # training images that the whitening is fitted to


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "mixed_bfloat16"
    """Data type of the computations. Variables are always float32."""
    widths: Annotated[
        str | None, tyro.conf.arg(metavar="STR", help_behavior_hint=training.BY_DATASET)
    ] = None
    """Filters of each stage, such as 64,256,384."""
    convolutions: training.IntByDataset = None
    """Convolutions of each stage. With 3 or more, the last one is residual."""
    gain: float = 3.3
    """Factor on the inputs of the activations."""
    temperature: training.FloatByDataset = None
    """Number by which the logits are divided, after --gain."""
    bias_learning_rate: training.FloatByDataset = None
    """Learning rate of the biases of batch normalisation, as a multiple of --learning_rate."""
    weight_decay: float = training.setting(0.00133, between=(0.0, 1000.0))
    """The multiple of each kernel that is added to its gradient."""
    label_smoothing: float = training.setting(0.2, between=(0.0, 0.999))
    """Share of each label that is spread evenly over all classes."""
    augmentation: Literal["none", "mirror", "alternate"] = "alternate"
    """mirror: mirrors half of the images.
    alternate: mirrors each image in every other epoch."""
    shift: int = training.setting(2, between=(0, 1024))
    """Largest shift of a training image along each side, in pixels."""


def defaults(config: Config, dataset: str) -> dict[str, Any]:
    """Returns the knots of the learning rate."""
    if config.learning_rate_schedule in (None, LEARNING_RATE_SCHEDULE):
        return {"learning_rate_knots": _KNOTS}
    return {}


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = network(config, dataset, training.activation(config, steps))
    optimizer = ScaledSGD(
        {"beta": config.bias_learning_rate},
        learning_rate=training.learning_rate(config, steps),
        momentum=0.85,
        nesterov=True,
    )
    return model, {
        "optimizer": optimizer,
        "loss": keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        ),
        "metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
    }


def network(config: Config, dataset: data.Dataset, activation, **arguments) -> keras.Model:
    """Returns the network of a configuration, its whitening fitted.

    Args:
        config: The configuration.
        dataset: The data set.
        activation: Any activation that `keras_elu.layers.get` accepts.
        **arguments: Further arguments of `models.fast_cifar`.
    """
    model = models.fast_cifar(
        dataset.image_shape,
        dataset.classes,
        activation,
        widths=_widths(config),
        convolutions=config.convolutions,
        gain=config.gain,
        temperature=config.temperature,
        weight_decay=config.weight_decay,
        **arguments,
    )
    for layer in model.layers:
        if isinstance(layer, models.PatchWhitening):
            images, _ = next(iter(dataset.evaluation("train", _FITTED, preprocess="none")))
            layer.adapt(images.numpy())
    return model


def self_contained(
    config: Config, dataset: data.Dataset, network: keras.Model
) -> models.Classifier:
    """Returns the network, which takes pixels from 0 to 255, with the names of its classes."""
    return models.classifier(network, **dataset.describe())


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str = "none"
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training pipeline, from a given step on, and those of validation and test."""
    form = {"preprocess": preprocess, "one_hot": True}
    batches = dataset.training(
        config.batch_size,
        seed=config.seed,
        augment=config.augmentation,
        start_step=start_step,
        **form,
    )
    side = min(batches.element_spec[0].shape[1:3])
    if config.shift >= side:
        raise ValueError(
            f"--shift {config.shift} moves images of {side} pixels away: give at most {side - 1}."
        )

    def shifted(step, batch):
        images, labels = batch
        seed = tf.stack([tf.constant(config.seed, tf.int64), step])
        return augmentation.shift(images, seed, config.shift), labels

    steps = tf.data.Dataset.counter(start_step)
    return (
        tf.data.Dataset.zip(steps, batches).map(shifted, num_parallel_calls=tf.data.AUTOTUNE),
        dataset.evaluation("validation", config.batch_size, **form),
        dataset.evaluation("test", config.batch_size, **form),
    )


def _widths(config: Config) -> list[int]:
    try:
        widths = [int(part) for part in config.widths.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise ValueError(
            f"--widths must be positive whole numbers, such as 64,256,384, not {config.widths!r}."
        )
    return widths
