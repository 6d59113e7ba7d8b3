"""What every run can be told; one spelling for field, flag and JSON key."""

import dataclasses
import functools
import os
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import keras
import numpy as np
import tyro

from keras_elu import data, layers
from keras_elu.training import checkpoints, profile

_BY_DATASET = "(default: depends on the data set, see above)"
IntByDataset = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_BY_DATASET)]
FloatByDataset = Annotated[
    float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=_BY_DATASET)
]
_OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT")]
_OptionalText = Annotated[str | None, tyro.conf.arg(metavar="STR")]


# What may be another when a run goes on, for it says how and not what is computed.
MAY_CHANGE = {
    "data_dir",
    "manual_dir",
    "strategy",
    "virtual_devices",
    "jit_compile",
    "micro_batches",
    "steps_per_execution",
    "checkpoint_every",
    "checkpoints_kept",
    "recover",
    "histograms_every",
    "profile",
}

_INT32 = 2**31 - 1
# The least and the most of whole numbers, where that is not 1 and what 32 bits hold.
_RANGES = {
    "seed": (0, 2**32 - 1),
    "validation_examples": (0, _INT32),
    "recover": (0, _INT32),
    "virtual_devices": (1, 1024),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The part of a configuration that all recipes share."""

    dataset: str = "auto"
    """Data set by name, such as mnist, cifar10, imagenet2012 or digits.
    auto: the recipe's own where it is prepared, otherwise the embedded digits."""
    data_dir: _OptionalText = None
    """Folder of the prepared data sets. None: ~/tensorflow_datasets."""
    manual_dir: _OptionalText = None
    """Folder of the original archives, to prepare a data set without a download."""
    strategy: Literal["default", "mirrored", "multiworker"] = "default"
    """default: one device.
    mirrored: every GPU, or every logical CPU device where there is no GPU.
    multiworker: those of all workers in TF_CONFIG, which keras_elu.launch sets on one machine."""
    virtual_devices: _OptionalInt = None
    """Logical devices to split the CPU into. None: one."""
    jit_compile: Literal["auto", "on", "off"] = "auto"
    """Whether XLA compiles the training step.
    auto: where it is faster, on GPUs, and on a CPU for dense networks in float32."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Data type of the computations; variables are always float32."""
    activation: str = "elu"
    """Activation of the hidden layers: elu, parametric_elu, shifted_relu, relu, leaky_relu, celu,
    gelu, selu or silu."""
    alpha: float = 1.0
    """Alpha of elu, at the start of parametric_elu; a positive number."""
    batch_size: IntByDataset = None
    """Images a step, over all replicas."""
    micro_batches: int | Literal["auto"] = 1
    """Parts in which a replica passes its images of a batch through the network, for less memory.
    auto: the least power of 2 with which a step fits."""
    learning_rate: FloatByDataset = None
    """Learning rate; its peak, where the recipe has a schedule."""
    epochs: IntByDataset = None
    """Passes over the training images."""
    steps_per_epoch: _OptionalInt = None
    """Steps an epoch. None: all training images once, less an incomplete last batch."""
    steps_per_execution: int = 1
    """Steps that run without a return to Python."""
    validation_examples: _OptionalInt = None
    """Images held out of the training set for validation. None: the data set's own choice."""
    checkpoint_every: str = "60s"
    """Steps from one checkpoint to the next, such as 100, or seconds, such as 60s."""
    checkpoints_kept: int = 2
    """Number of checkpoints in the folder of the run."""
    recover: int = 0
    """How often a run whose loss is not finite goes back to its last checkpoint, and leaves out the
    batches that led there."""
    histograms_every: _OptionalInt = None
    """Steps from one look into the layers to the next, for TensorBoard: mean and saturated share of
    the activations, histograms of them and of the gradients. None: never."""
    profile: _OptionalText = None
    """First and last step to profile for TensorBoard, such as 100:110. None: none."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and the drop-out."""
    run_dir: _OptionalText = None
    """Folder of the run. None: runs/RECIPE-DATASET-TIME."""
    config: _OptionalText = None
    """config.json of a run to repeat; flags beside it override it."""


AnyConfig = TypeVar("AnyConfig", bound=Config)


def resolve(recipe: types.ModuleType, config: AnyConfig) -> AnyConfig:
    """Returns `config` with the data set named and all that depends on it filled in."""
    name = config.dataset
    if name == "auto":
        name = own_dataset(recipe)
        name = name if data.is_prepared(name, config.data_dir) else "digits"
    defaults = recipe.DEFAULTS.get(name, recipe.DEFAULTS[own_dataset(recipe)])
    missing = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    return dataclasses.replace(config, dataset=name, **missing)


def own_dataset(recipe: types.ModuleType) -> str:
    """Returns the data set that the recipe was made for, the first of its table of defaults."""
    return next(iter(recipe.DEFAULTS))


def check(config: Config) -> None:
    """Raises `ValueError` with one sentence for a value that no run could use."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if wanted := _wanted(field.name, value):
            raise ValueError(f"--{field.name} must be {wanted}, not {value!r}.")
    checkpoints.interval(config.checkpoint_every, "--checkpoint_every")
    if config.profile is not None:
        profile.interval(config.profile)
    activation(config)()


def _wanted(name: str, value: Any) -> str | None:
    """Returns what a value should be instead; None if it may be what it is."""
    match value:
        case str():
            return None if _may_be_a_name(value) else "text of at least one character, none null"
        case float():
            numbers = np.finfo("float32")
            held = float(numbers.tiny) <= value <= float(numbers.max)
            return None if held else "a positive number in the range of float32"
        case int() if not isinstance(value, bool):
            least, most = _RANGES.get(name, (1, _INT32))
            return None if least <= value <= most else f"a whole number from {least} to {most}"
    return None


def _may_be_a_name(text: str) -> bool:
    """Whether the operating system can take a text for the name of a file."""
    try:
        return text != "" and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def activation(config: Config) -> Callable[[], keras.layers.Layer]:
    """Returns the function that makes the hidden layers' activations.

    Raises:
        ValueError: If there is no such activation, or it has no alpha and one is given.
    """
    make = layers.get(config.activation)
    if config.activation in ("elu", "parametric_elu"):
        return functools.partial(make, alpha=config.alpha)
    if config.alpha != Config.alpha:
        raise ValueError(
            f"--alpha {config.alpha} has no meaning for --activation {config.activation}: it is "
            "for elu and parametric_elu."
        )
    return make
