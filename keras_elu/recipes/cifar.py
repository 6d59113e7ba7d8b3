"""The networks of the paper's table for small images: its own, and those it is compared with.

Each network has the preprocessing, augmentation, optimizer, schedule and weight decay that it was
published with. Those of the paper take images that are contrast-normalised and whitened (GCN and
ZCA), padded, cropped and flipped.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), sections 4.2 and 4.3.
"""

import dataclasses
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
import tyro

from keras_elu import data, models, training
from keras_elu.recipes import cifar_images, cifar_networks

__doc__ += "\nThe networks on CIFAR-10 or CIFAR-100, and the cost of their full schedule:\n\n"
__doc__ += cifar_networks.table()

DEFAULTS = {
    # 165,000 steps for 50,000 images, as in the paper. Set --learning_rate for elu_resnet.
    "cifar100": {"batch_size": 100, "learning_rate": 0.01, "epochs": 330},
    "digits": {"batch_size": 50, "learning_rate": 0.01, "epochs": 15},
}
LEARNING_RATE_SCHEDULE = "piecewise"
_BY_NETWORK = "(default: depends on the network)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(training.Config):
    """The configuration, with the fields of this recipe."""

    network: Literal[
        "elu_cifar_11",
        "elu_cifar_18",
        "elu_resnet",
        "alexnet_cifar",
        "deeply_supervised",
        "network_in_network",
        "maxout",
        "all_cnn",
        "highway",
        "fractional_max_pooling",
    ] = "elu_cifar_11"
    """The network, see above; elu_resnet is a residual one with 20 layers.
    The chosen network's published training gives the defaults of the other flags."""
    activation: str = "auto"
    """Activation of the hidden layers. auto: the network's own.
    Or elu, parametric_elu, shifted_relu, relu, leaky_relu, celu, gelu, selu or silu."""
    weight_decay: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=_BY_NETWORK)
    ] = training.setting(None, between=(0.0, 1000.0))
    """The multiple of each kernel that is added to its gradient."""
    preprocessing: Annotated[
        Literal["whiten", "contrast", "unit_contrast", "mean", "range"] | None,
        tyro.conf.arg(help_behavior_hint=_BY_NETWORK),
    ] = None
    """whiten: global contrast normalisation (GCN) and ZCA.
    contrast: GCN, less the mean image.
    unit_contrast: GCN, scaled to 0 to 1.
    mean: pixels less the mean image.
    range: pixels scaled to -1 to 1."""
    augmentation: Annotated[
        Literal["none", "crop", "affine"] | None, tyro.conf.arg(help_behavior_hint=_BY_NETWORK)
    ] = None
    """crop: pads, crops and mirrors.
    affine: stretches, rotates, shears, shifts and mirrors."""


def defaults(config: Config, dataset: str) -> dict[str, Any]:
    """Returns the values of flags that depend on the network."""
    network = _network(config, 100 if dataset == "cifar100" else 10)
    fields = ("activation", "learning_rate", "preprocessing", "augmentation", "weight_decay")
    if dataset not in DEFAULTS or dataset == "cifar100":
        fields += ("batch_size", "epochs")
    values = {name: getattr(network, name) for name in fields}
    if network.knots and config.learning_rate_schedule in (None, "knots"):
        values |= {"learning_rate_schedule": "knots", "learning_rate_knots": network.knots}
    return values


def build(config: Config, dataset: data.Dataset, steps: int) -> tuple[keras.Model, dict[str, Any]]:
    """Returns the network and the arguments of its `compile`."""
    network = _network(config, dataset.classes)
    arguments = dict(network.arguments)
    if (activation := training.activation(config, steps)) is not None:
        arguments["activation"] = activation
    elif config.alpha != Config.alpha or config.alpha_schedule != Config.alpha_schedule:
        raise ValueError(
            f"The activation of {config.network} has no alpha: give --activation elu, or leave out "
            "--alpha and --alpha_schedule."
        )
    if network.make is models.deeply_supervised:
        arguments["companions"] = cifar_networks.companions(steps)
    shape = dataset.image_shape
    for layer in _layers(config, dataset):
        shape = layer.compute_output_shape((None, *shape))[1:]
    model = network.make(shape, dataset.classes, weight_decay=config.weight_decay, **arguments)
    learning_rate = training.learning_rate(config, steps, network.piecewise)
    return model, {
        "optimizer": network.optimizer(learning_rate),
        **cifar_networks.compile_arguments(network),
    }


def self_contained(
    config: Config, dataset: data.Dataset, network: keras.Model
) -> models.Classifier:
    """Returns the network, without companions, as a model that takes pixels from 0 to 255."""
    if _network(config, dataset.classes).make is models.deeply_supervised:
        network = models.without_companions(network)
    layers, whitening = _layers(config, dataset), models.Whitening(name="whitening")
    pixels = x = keras.Input(dataset.image_shape, name="images")
    for layer in [whitening, *layers] if config.preprocessing == "whiten" else layers:
        x = layer(x)
    if config.preprocessing == "whiten":
        whitening.set_weights(dataset.whitening)
    return models.Classifier(pixels, network.call(x), name=network.name, **dataset.describe())


def datasets(
    config: Config, dataset: data.Dataset, start_step: int = 0, preprocess: str | None = None
) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
    """Returns the training pipeline, from a given step on, and those of validation and test."""
    layers = _layers(config, dataset) if preprocess is None else []
    preprocess = preprocess or ("whiten" if config.preprocessing == "whiten" else "none")
    stored = {"preprocess": preprocess}
    batches = dataset.training(
        config.batch_size, seed=config.seed, augment="none", start_step=start_step, **stored
    )
    return (
        cifar_images.augmented(
            cifar_images.through(batches, layers),
            dataset,
            config.augmentation,
            _network(config, dataset.classes).pad * dataset.image_shape[0] // 32 or 1,
            config.seed,
            start_step,
        ),
        *(
            cifar_images.through(dataset.evaluation(split, config.batch_size, **stored), layers)
            for split in ("validation", "test")
        ),
    )


def _network(config: Config, classes: int) -> cifar_networks.Network:
    return cifar_networks.NETWORKS[config.network].for_classes(classes)


def _layers(config: Config, dataset: data.Dataset) -> list[keras.Layer]:
    return cifar_images.preprocessing_layers(config.preprocessing, config.augmentation, dataset)
