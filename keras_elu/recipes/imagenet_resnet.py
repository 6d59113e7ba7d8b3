"""A residual network of 50 layers for photographs, trained with current methods.

Half precision, images that grow during training, a cosine schedule with warm-up, label smoothing,
weight decay on kernels only, and averaged weights. Optionally TrivialAugment, random erasing, mixup
and CutMix.

Reference: Shah et al., 2016 (https://arxiv.org/abs/1604.04112), section 3, for the network;
Wightman et al., 2021 (https://arxiv.org/abs/2110.00476), for the training.
"""

import dataclasses
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
import tyro

from keras_elu import data, models, training

# For 100 epochs. The stronger augmentations help in longer training and hurt in shorter.
DEFAULTS = {
    "imagenet2012": {
        "batch_size": 1024,
        "learning_rate": 2.0,
        "epochs": 100,
        "image_size": 224,
        "first_size": 128,
        "last_size": 192,
        "augmentation": "resized_crop",
    },
    "digits": {
        "batch_size": 32,
        "learning_rate": 0.02,
        "epochs": 12,
        "image_size": 32,
        "first_size": 32,
        "last_size": 32,
        "augmentation": "crop",
    },
}
LEARNING_RATE_SCHEDULE = "cosine"
SIZE_STEP = 32  # pixels by which images grow; each size needs a compilation
# Decoupled from the gradient: each step shrinks kernels by this multiple of the learning rate. With
# a momentum of 0.9 it corresponds to the usual 0.00005, added to the gradient.
WEIGHT_DECAY = 0.0005
AVERAGED_EPOCHS = 2  # the span of the weight average; at most a tenth of the training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "mixed_bfloat16"
    """Data type of the computations. Variables are always float32."""
    image_size: training.IntByDataset = None
    """Height and width of validation and test images, in pixels."""
    first_size: training.IntByDataset = None
    """Initial height and width of training images, in pixels."""
    last_size: training.IntByDataset = None
    """Final height and width of training images, in pixels.
    They grow in steps of 32, at equal intervals."""
    augmentation: Annotated[
        Literal["crop", "resized_crop", "trivial"] | None,
        tyro.conf.arg(help_behavior_hint=training.BY_DATASET),
    ] = None
    """crop: crops of one scale.
    resized_crop: crops of 8% to 100% of the area.
    trivial: resized_crop followed by TrivialAugment.
    All of them mirror half of the images."""
    erasing: float = training.setting(0.0, between=(0.0, 1.0))
    """Probability of erasing a rectangle of an image."""
    mixup: float = training.setting(0.0, between=(0.0, 100.0))
    """Alpha of the beta distribution for mixup, such as 0.2. 0: no mixup."""
    cutmix: float = training.setting(0.0, between=(0.0, 100.0))
    """Alpha of the beta distribution for CutMix, such as 1. 0: no CutMix."""
    label_smoothing: float = training.setting(0.1, between=(0.0, 0.999))
    """Share of each label that is spread evenly over all classes."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = models.elu_resnet_50(
        input_shape=(None, None, dataset.image_shape[-1]),
        classes=dataset.classes,
        activation=training.activation(config, steps),
        weight_decay=0.0,  # left to the optimizer
        include_preprocessing=True,  # the accelerator receives pixels as bytes
    )
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if dataset.classes >= 100:
        metrics += [keras.metrics.TopKCategoricalAccuracy(5, name="top_5_accuracy")]
    averaged = min(steps / 10, steps / config.scheduled_epochs * AVERAGED_EPOCHS)
    optimizer = keras.optimizers.SGD(
        training.learning_rate(config, steps),
        momentum=0.9,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
        use_ema=True,
        ema_momentum=1 - 1 / max(1, averaged),
    )
    optimizer.exclude_from_weight_decay(var_names=["alpha", "beta", "bias", "gamma", "scale"])
    return model, {
        "optimizer": optimizer,
        "loss": keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing
        ),
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
    steps = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
    form = {"preprocess": preprocess, "one_hot": True}
    return (
        dataset.training(
            config.batch_size,
            seed=config.seed,
            augment=config.augmentation,
            erasing=config.erasing,
            mixup=config.mixup,
            cutmix=config.cutmix,
            image_size=sizes(config, steps),
            start_step=start_step,
            **form,
        ),
        dataset.evaluation("validation", config.batch_size, image_size=config.image_size, **form),
        dataset.evaluation("test", config.batch_size, image_size=config.image_size, **form),
    )


def sizes(config: Config, steps_per_epoch: int) -> dict[int, int]:
    """Returns the sizes of training images, by the first step of each, which starts an epoch.

    Example:

    >>> sizes(Config(epochs=90, first_size=128, last_size=192), 100)
    {0: 128, 3000: 160, 6000: 192}
    """
    if config.first_size > config.last_size:
        raise ValueError(
            f"--first_size {config.first_size} is above --last_size {config.last_size}: images "
            "grow during training, so raise --last_size."
        )
    grown = [*range(config.first_size, config.last_size, SIZE_STEP), config.last_size]
    return {
        config.scheduled_epochs * part // len(grown) * steps_per_epoch: size
        for part, size in enumerate(grown)
    }
