"""Classifies photographs with a residual network of 50 layers, as they are trained today.

Half precision, images that grow while it trains, a cosine with warm-up, smoothed labels, weight
decay on kernels alone, and averaged weights; TrivialAugment, erasing, mixup and CutMix on demand.

Reference: Shah et al., 2016 (https://arxiv.org/abs/1604.04112), section 3, for the network;
Wightman et al., 2021 (https://arxiv.org/abs/2110.00476), for the training.
"""

import dataclasses
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
import tyro

from keras_elu import data, models, training

# For a hundred epochs. Longer trainings gain from the stronger augmentations, short ones lose.
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
SIZE_STEP = 32  # pixels by which images grow: few sizes, for each is compiled
# Kernels shrink by this share of the learning rate at each step; with a momentum of 0.9 it is the
# usual 0.00005 of a gradient.
WEIGHT_DECAY = 0.0005
AVERAGED_EPOCHS = 2  # over which weights are averaged, fewer where the training is short


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """What the recipe can be told, besides what all can."""

    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "mixed_bfloat16"
    """Data type of the computations; variables are always float32."""
    image_size: training.IntByDataset = None
    """Height and width in pixels of the images of validation and test."""
    first_size: training.IntByDataset = None
    """Height and width in pixels of training images at first."""
    last_size: training.IntByDataset = None
    """Height and width in pixels of training images at last; they grow by 32 in equal times."""
    augmentation: Annotated[
        Literal["crop", "resized_crop", "trivial"] | None,
        tyro.conf.arg(help_behavior_hint=training.BY_DATASET),
    ] = None
    """crop: crops of one scale. resized_crop: of 8% to 100% of the area.
    trivial: those, changed by TrivialAugment. All are mirrored half of the time."""
    erasing: float = training.setting(0.0, between=(0.0, 1.0))
    """Share of the images of which a rectangle is erased."""
    mixup: float = training.setting(0.0, between=(0.0, 100.0))
    """Concentration of the weights with which pairs of images are mixed, such as 0.2. 0: none."""
    cutmix: float = training.setting(0.0, between=(0.0, 100.0))
    """Concentration of the areas by which images replace each other, such as 1. 0: none."""
    label_smoothing: float = training.setting(0.1, between=(0.0, 0.999))
    """Share of a label that is spread over all classes."""


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    model = models.elu_resnet_50(
        input_shape=(None, None, dataset.image_shape[-1]),
        classes=dataset.classes,
        activation=training.activation(config, steps),
        weight_decay=0.0,  # the optimizer's
        include_preprocessing=True,  # so that pixels travel to the accelerator a byte each
    )
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if dataset.classes >= 100:
        metrics += [keras.metrics.TopKCategoricalAccuracy(5, name="top_5_accuracy")]
    averaged = min(steps / 10, steps / config.epochs * AVERAGED_EPOCHS)
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


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the pipelines of training, from a step on, validation and test."""
    steps = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
    form = {"preprocess": "none", "one_hot": True}
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
    """Returns the sizes of training images, each by its first step, which begins an epoch.

    Example:

    >>> sizes(Config(epochs=90, first_size=128, last_size=192), 100)
    {0: 128, 3000: 160, 6000: 192}
    """
    if config.first_size > config.last_size:
        raise ValueError(
            f"--first_size {config.first_size} is above --last_size {config.last_size}: images "
            "grow while the network trains."
        )
    grown = [*range(config.first_size, config.last_size, SIZE_STEP), config.last_size]
    return {
        config.epochs * part // len(grown) * steps_per_epoch: size
        for part, size in enumerate(grown)
    }
