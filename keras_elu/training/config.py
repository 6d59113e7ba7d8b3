"""What every run can be told; one spelling for field, flag and JSON key."""

import dataclasses
import functools
import itertools
import os
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args

import keras
import numpy as np
import tyro

from keras_elu import data, layers, schedules
from keras_elu.training import checkpoints, profiling

BY_DATASET = "(default: depends on the data set, see above)"
IntByDataset = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=BY_DATASET)]
FloatByDataset = Annotated[
    float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=BY_DATASET)
]
_Shape = Literal["constant", "piecewise", "cosine", "one_cycle", "knots"]
_OptionalShape = Annotated[
    _Shape | None,
    tyro.conf.arg(
        metavar="{" + ",".join(get_args(_Shape)) + "}",
        help_behavior_hint="(default: depends on the recipe, see above)",
    ),
]
_OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT")]
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
# The same of other numbers, where they need not be positive, or not larger than these.
_PARTS = {
    "alpha_end": (1e-3, 1e3),
    "alpha_until": (1e-3, 1.0),
    "alpha_knots": (1e-3, 1e3),
    "cutmix": (0.0, 100.0),
    "erasing": (0.0, 1.0),
    "label_smoothing": (0.0, 0.999),
    "learning_rate_end": (0.0, 1.0),
    "learning_rate_knots": (0.0, 1.0),
    "learning_rate_warmup": (0.0, 0.999),
    "mixup": (0.0, 100.0),
}
# By schedule, the flags that have a meaning for it, besides those of all.
_OF_SCHEDULE = {
    "alpha_schedule": {
        "linear": ("alpha_end", "alpha_until"),
        "cosine": ("alpha_end", "alpha_until"),
        "knots": ("alpha_knots",),
    },
    "learning_rate_schedule": {
        "cosine": ("learning_rate_end",),
        "one_cycle": ("learning_rate_end",),
        "knots": ("learning_rate_knots",),
    },
}
_MOST_KNOTS = 100
_MANY = 2**31 - 1  # steps, more than there are knots
_WARMUP = {"cosine": 0.05, "one_cycle": 0.3}


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
    auto: where it is faster, on GPUs, and on a CPU for dense networks in float32 or, up to 512
    units, bfloat16."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Data type of the computations; variables are always float32."""
    activation: str = "elu"
    """Activation of the hidden layers: elu, parametric_elu, shifted_relu, relu, leaky_relu, celu,
    gelu, selu or silu."""
    alpha: float = 1.0
    """Alpha of elu, at the start of parametric_elu; a positive number."""
    alpha_schedule: Literal["constant", "linear", "cosine", "knots"] = "constant"
    """How alpha of elu changes over the training."""
    alpha_end: float = 1.0
    """Linear, cosine: alpha at the end, in parts of --alpha."""
    alpha_until: float = 1.0
    """Linear, cosine: the part of the steps after which alpha is at its end."""
    alpha_knots: _OptionalText = None
    """Knots: alpha in parts of --alpha, as 1,0.5,2: straight lines between places spread evenly
    over the steps."""
    batch_size: IntByDataset = None
    """Images a step, over all replicas."""
    micro_batches: int | Literal["auto"] = 1
    """Parts in which a replica passes its images of a batch through the network, for less memory.
    auto: the least power of 2 with which a step fits."""
    learning_rate: FloatByDataset = None
    """Learning rate; of a schedule, its peak."""
    learning_rate_schedule: _OptionalShape = None
    """How the learning rate changes over the training.
    piecewise: the paper's for CIFAR-100, down to a half, a 20th and a 200th.
    one_cycle: half a cosine wave up and another one down."""
    learning_rate_warmup: _OptionalFloat = None
    """Part of the steps on which the learning rate rises to its peak, from 0 or, of one_cycle, from
    a 25th. None: 0.05 of cosine, 0.3 of one_cycle, 0 of the others."""
    learning_rate_end: float = 0.0
    """Cosine, one_cycle: the learning rate at the end, in parts of its peak."""
    learning_rate_knots: _OptionalText = None
    """Knots: learning rates in parts of the peak, as 0.1,1,0: straight lines between places spread
    evenly over the steps."""
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
    evaluate: _OptionalText = None
    """Folder of a run, checkpoint or .keras file to evaluate, instead of training; with the
    configuration of that run, which flags override."""


AnyConfig = TypeVar("AnyConfig", bound=Config)


def resolve(recipe: types.ModuleType, config: AnyConfig) -> AnyConfig:
    """Returns `config` with the data set named and all that depends on it filled in."""
    name = config.dataset
    if name == "auto":
        name = own_dataset(recipe)
        name = name if data.is_prepared(name, config.data_dir) else "digits"
    defaults = recipe.DEFAULTS.get(name, recipe.DEFAULTS[own_dataset(recipe)])
    missing = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    schedule = config.learning_rate_schedule or recipe.LEARNING_RATE_SCHEDULE
    warmup = config.learning_rate_warmup
    config = dataclasses.replace(
        config,
        dataset=name,
        learning_rate_schedule=schedule,
        learning_rate_warmup=_WARMUP.get(schedule, 0.0) if warmup is None else warmup,
        **missing,
    )
    _check_schedules(config)
    return config


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
    for name in ("alpha_knots", "learning_rate_knots"):
        _knots(config, name)
    most = max([config.alpha_end, *_knots(config, "alpha_knots")])
    if wanted := _wanted("alpha", config.alpha * most):
        raise ValueError(f"--alpha must stay {wanted}, not become {config.alpha * most!r}.")
    if config.profile is not None:
        profiling.interval(config.profile)
    activation(config, steps=_MANY)()


def _check_schedules(config: Config) -> None:
    """Raises `ValueError` with one sentence for a flag that the schedule has no use for.

    Which schedule it is may depend on the data set.
    """
    for name, by_schedule in _OF_SCHEDULE.items():
        chosen = getattr(config, name)
        for flag in dict.fromkeys(itertools.chain(*by_schedule.values())):
            given = getattr(config, flag) != getattr(Config, flag)
            if given and flag not in by_schedule.get(chosen, ()):
                of = " and ".join(key for key, flags in by_schedule.items() if flag in flags)
                raise ValueError(f"--{flag} has no meaning for --{name} {chosen}: it is for {of}.")


def _wanted(name: str, value: Any) -> str | None:
    """Returns what a value should be instead; None if it may be what it is."""
    match value:
        case str():
            return None if _may_be_a_name(value) else "text of at least one character, none null"
        case float() if name in _PARTS:
            least, most = _PARTS[name]
            return None if least <= value <= most else f"a number from {least:g} to {most:g}"
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


def learning_rate(
    config: Config, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a training of so many steps.

    Args:
        config: A configuration that `resolve` has completed.
        steps: Number of steps of the whole training, positive.

    Raises:
        ValueError: If there are more knots than steps.

    Example:

    >>> config = Config(
    ...     learning_rate=2.0, learning_rate_schedule="cosine", learning_rate_warmup=0.2
    ... )
    >>> learning_rate(config, 100)(np.array([0, 10, 20, 100])).numpy().tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    peak, end = config.learning_rate, config.learning_rate_end
    warmup = int(steps * config.learning_rate_warmup)
    match config.learning_rate_schedule:
        case "piecewise":
            paper = schedules.elu_cifar_11(steps - warmup)
            factor = peak / paper.values[0]
            boundaries = [warmup + boundary for boundary in paper.boundaries]
            values = [factor * rate for rate in paper.values]
            return schedules.PiecewiseConstant(boundaries, values, warmup_steps=warmup)
        case "cosine":
            return schedules.Cosine(peak, steps, warmup_steps=warmup, end=peak * end)
        case "one_cycle":
            return schedules.OneCycle(peak, steps, config.learning_rate_warmup, end_factor=end)
        case "knots":
            knots, values = _path(config, "learning_rate_knots", peak, warmup, steps)
            return (
                schedules.Knots([0, *knots], [0.0, *values])
                if warmup
                else schedules.Knots(knots, values)
            )
    return schedules.Knots([0, warmup], [0.0, peak]) if warmup else peak


def alpha(config: Config, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the alpha of a training of so many steps.

    Args:
        config: The configuration.
        steps: Number of steps of the whole training, positive.

    Raises:
        ValueError: If there are more knots than steps.

    Example:

    >>> config = Config(alpha=2.0, alpha_schedule="linear", alpha_end=0.5, alpha_until=0.5)
    >>> alpha(config, 100)(np.array([0, 25, 50, 100])).numpy().tolist()
    [2.0, 1.5, 1.0, 1.0]
    """
    start, end = config.alpha, config.alpha * config.alpha_end
    changing = max(1, round(steps * config.alpha_until))
    match config.alpha_schedule:
        case "linear":
            return schedules.Linear(start, end, changing)
        case "cosine":
            return schedules.Cosine(start, changing, end=end)
        case "knots":
            return schedules.Knots(*_path(config, "alpha_knots", start, 0, steps))
    return start


def _path(config, name, unit, first, last) -> tuple[list[int], list[float]]:
    """Returns the steps from `first` to `last`, and the values, of the knots that a flag gives."""
    values = _knots(config, name)
    if not values:
        raise ValueError(f"--{name.replace('knots', 'schedule')} knots needs --{name}, as 1,0.5.")
    if len(values) > last - first + 1:
        raise ValueError(
            f"--{name} has {len(values)} knots for {last - first:,} steps: give fewer."
        )
    steps = [first + (last - first) * i // (len(values) - 1) for i in range(len(values))]
    return steps, [unit * value for value in values]


def _knots(config, name) -> list[float]:
    text = getattr(config, name)
    if text is None:
        return []
    least, most = _PARTS[name]
    try:
        values = [float(part) for part in text.split(",")]
        right = 2 <= len(values) <= _MOST_KNOTS and all(least <= v <= most for v in values)
    except ValueError:
        right = False
    if not right:
        raise ValueError(
            f"--{name} must be 2 to {_MOST_KNOTS} numbers from {least:g} to {most:g}, such as "
            f"1,0.5, not {text!r}."
        )
    return values


def activation(config: Config, steps: int) -> Callable[[], keras.layers.Layer]:
    """Returns the function that makes the hidden layers' activations.

    Args:
        config: The configuration.
        steps: Number of steps of the whole training, over which alpha may change.

    Raises:
        ValueError: If there is no such activation, or it has no alpha and one is given.
    """
    make = layers.get(config.activation)
    if config.activation == "elu":
        return functools.partial(make, alpha=alpha(config, steps))
    for name, of in (("alpha_schedule", ("elu",)), ("alpha", ("elu", "parametric_elu"))):
        value = getattr(config, name)
        if config.activation not in of and value != getattr(Config, name):
            raise ValueError(
                f"--{name} {value} has no meaning for --activation {config.activation}: it is for "
                f"{' and '.join(of)}."
            )
    if config.activation == "parametric_elu":
        return functools.partial(make, alpha=config.alpha)
    return make
