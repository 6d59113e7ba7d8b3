"""The configuration that all recipes share; field, flag and JSON key have the same name."""

import dataclasses
import types
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro

from keras_elu import data

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

LARGEST_INT = 2**31 - 1
_WARMUP = {"cosine": 0.05, "one_cycle": 0.3}


def setting(
    default: Any,
    *,
    between: tuple[float, float] | None = None,
    may_change: bool = False,
    place: bool = False,
    path: bool = False,
    only_for: dict[str, tuple[str, ...]] | None = None,
) -> Any:
    """Returns a field of a configuration, with the rules for its values.

    Args:
        default: The default.
        between: Smallest and largest number allowed. None: 1 to the largest 32-bit integer, or for
            a float any positive float32.
        may_change: Whether the value may change on resume, because it affects how a run computes
            and not what.
        place: Whether the value is the path of a run, which config.json leaves out.
        path: Whether the value is a path, in which `~` is the home folder. A place is one.
        only_for: The field of a schedule, with the values for which this field has a meaning.
    """
    metadata = {
        "between": between,
        "may_change": may_change,
        "place": place,
        "path": place or path,
        "only_for": only_for,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration that all recipes share."""

    dataset: str = "auto"
    """Name of the data set, such as mnist, cifar10, imagenet2012 or digits.
    auto: the recipe's default if it is prepared, otherwise the embedded digits."""
    data_dir: _OptionalText = setting(None, may_change=True, path=True)
    """Folder of the prepared data sets. None: ~/tensorflow_datasets."""
    manual_dir: _OptionalText = setting(None, may_change=True, path=True)
    """Folder of the original archives, to prepare a data set without downloading it."""
    strategy: Literal["default", "mirrored", "multiworker"] = setting("default", may_change=True)
    """default: one device.
    mirrored: all GPUs, or all logical CPU devices if there is no GPU.
    multiworker: the devices of all workers in TF_CONFIG, which keras_elu.launch sets up."""
    virtual_devices: _OptionalInt = setting(None, may_change=True, between=(1, 1024))
    """Number of logical devices to split every GPU into, or the CPU if there is none. None: one."""
    jit_compile: Literal["auto", "on", "off"] = setting("auto", may_change=True)
    """Whether XLA compiles the training step.
    auto: only where it is faster.
    That is on GPUs, and on CPUs for dense networks in float32, or in bfloat16 up to 512 units."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Data type of the computations. Variables are always float32."""
    activation: str = "elu"
    """Activation of the hidden layers.
    One of elu, parametric_elu, shifted_relu, relu, leaky_relu, celu, gelu, selu and silu."""
    alpha: float = 1.0
    """Alpha of elu, or its initial value for parametric_elu. Positive."""
    alpha_schedule: Literal["constant", "linear", "cosine", "knots"] = "constant"
    """How alpha of elu changes during training."""
    alpha_end: float = setting(
        1.0, between=(1e-3, 1e3), only_for={"alpha_schedule": ("linear", "cosine")}
    )
    """For linear and cosine: final alpha, as a fraction of --alpha."""
    alpha_until: float = setting(
        1.0, between=(1e-3, 1.0), only_for={"alpha_schedule": ("linear", "cosine")}
    )
    """For linear and cosine: fraction of the steps after which alpha is final."""
    alpha_knots: _OptionalText = setting(
        None, between=(1e-3, 1e3), only_for={"alpha_schedule": ("knots",)}
    )
    """For knots: values of alpha as fractions of --alpha, such as 1,0.5,2.
    They are spread evenly over the steps and joined by straight lines."""
    batch_size: IntByDataset = None
    """Images per step, over all replicas."""
    micro_batches: int | Literal["auto"] = setting(1, may_change=True)
    """Number of micro-batches per replica and step, to save memory.
    auto: the smallest power of 2 with which a step fits into memory."""
    learning_rate: FloatByDataset = None
    """Learning rate, or its peak if it has a schedule."""
    learning_rate_schedule: _OptionalShape = None
    """How the learning rate changes during training.
    piecewise: constant between drops. These are the published ones for
    the --network of trainers/cifar.py; otherwise the paper's for
    CIFAR-100, to 1/2, 1/20 and 1/200.
    one_cycle: half a cosine wave up, and another one down."""
    learning_rate_warmup: _OptionalFloat = setting(None, between=(0.0, 0.999))
    """Fraction of the steps in which the learning rate rises to its peak.
    It starts at 0, or for one_cycle at 1/25 of the peak.
    None: 0.05 for cosine, 0.3 for one_cycle, 0 for the others."""
    learning_rate_end: float = setting(
        0.0, between=(0.0, 1.0), only_for={"learning_rate_schedule": ("cosine", "one_cycle")}
    )
    """For cosine and one_cycle: final learning rate, as a fraction of its peak."""
    learning_rate_knots: _OptionalText = setting(
        None, between=(0.0, 1.0), only_for={"learning_rate_schedule": ("knots",)}
    )
    """For knots: learning rates as fractions of the peak, such as 0.1,1,0.
    They are spread evenly over the steps and joined by straight lines."""
    epochs: IntByDataset = None
    """Number of passes over the training images.
    A greater number than before trains the run in --run_dir longer."""
    schedule_epochs: _OptionalInt = None
    """Number of epochs that the schedules span; afterwards they keep their final values.
    None: --epochs."""
    steps_per_epoch: _OptionalInt = None
    """Steps per epoch. None: as many as there are complete batches of training images."""
    steps_per_execution: int = setting(1, may_change=True)
    """Number of steps that run without returning to Python."""
    validation_examples: _OptionalInt = setting(None, between=(0, LARGEST_INT))
    """Number of training images held out for validation. None: depends on the data set."""
    keep_best: _OptionalText = None
    """Validation metric, such as val_accuracy or val_loss.
    The model of the epoch in which it was best is saved as best.keras. None: it is not."""
    patience: _OptionalInt = None
    """Number of epochs without a better --keep_best after which the run stops. None: never."""
    initial_weights: _OptionalText = setting(None, path=True)
    """Run, checkpoint or .keras file whose weights the run begins with, where they fit.
    None: random weights."""
    freeze: _OptionalText = None
    """Prefixes of the names of the layers to freeze, such as conv_1,conv_2.
    conv_1 also matches conv_10.
    Frozen batch normalisation uses its moving statistics. None: all layers are trained."""
    backbone_learning_rate: float = setting(1.0, between=(0.0, 1000.0))
    """Learning rate of all layers before the last one, as a fraction of --learning_rate."""
    checkpoint_every: str = setting("60s", may_change=True)
    """Interval between checkpoints, in steps, such as 100, or in seconds, such as 60s."""
    checkpoints_kept: int = setting(2, may_change=True)
    """Number of checkpoints to keep."""
    recover: int = setting(0, may_change=True, between=(0, LARGEST_INT))
    """How many times a run may recover from a loss that is not finite.
    It returns to its last checkpoint and skips the batches that led to the loss."""
    histograms_every: _OptionalInt = setting(None, may_change=True)
    """Interval, in steps, between histograms of activations and gradients for TensorBoard.
    The mean and the saturated share of the activations come with them. None: never."""
    profile: _OptionalText = setting(None, may_change=True)
    """First and last step to profile for TensorBoard, such as 100:110. None: no profile."""
    deterministic: bool = setting(False, may_change=True)
    """Makes a run repeat bit for bit on accelerators, too. It turns XLA off and may be slower."""
    seed: int = setting(0, between=(0, 2**32 - 1))
    """Seed of the initial weights, the order and augmentation of the images, and dropout."""
    run_dir: _OptionalText = setting(None, place=True)
    """Folder of the run. None: runs/RECIPE-DATASET-TIME."""
    config: _OptionalText = setting(None, place=True)
    """The config.json of a run to repeat. Other flags override its values."""
    evaluate: _OptionalText = setting(None, place=True)
    """Folder of a run, checkpoint or .keras file to evaluate instead of training.
    The configuration is that of the run. Other flags override its values."""

    @property
    def scheduled_epochs(self) -> int:
        """The number of epochs that the schedules span."""
        return self.schedule_epochs or self.epochs


MAY_CHANGE = {f.name for f in dataclasses.fields(Config) if f.metadata.get("may_change")}
PLACES = {f.name for f in dataclasses.fields(Config) if f.metadata.get("place")}
AnyConfig = TypeVar("AnyConfig", bound=Config)


def resolve(recipe: types.ModuleType, config: AnyConfig) -> AnyConfig:
    """Returns `config` with the data set chosen, and the defaults that depend on it filled in."""
    name = config.dataset
    if name == "auto":
        name = default_dataset(recipe)
        name = name if data.is_prepared(name, config.data_dir) else "digits"
    defaults = {
        "learning_rate_schedule": recipe.LEARNING_RATE_SCHEDULE,
        **recipe.DEFAULTS.get(name, recipe.DEFAULTS[default_dataset(recipe)]),
    }
    if hasattr(recipe, "defaults"):
        defaults |= recipe.defaults(config, name)
    given = {key: getattr(config, key) for key in defaults}
    config = dataclasses.replace(
        config,
        dataset=name,
        **{key: value for key, value in defaults.items() if given[key] in (None, "auto")},
    )
    schedule, warmup = config.learning_rate_schedule, config.learning_rate_warmup
    config = dataclasses.replace(
        config, learning_rate_warmup=_WARMUP.get(schedule, 0.0) if warmup is None else warmup
    )
    _check_schedules(config)
    return config


def default_dataset(recipe: types.ModuleType) -> str:
    """Returns the data set that the recipe was made for, the first in its `DEFAULTS`."""
    return next(iter(recipe.DEFAULTS))


def _check_schedules(config: Config) -> None:
    """Raises `ValueError` with one sentence if a flag does not apply to the chosen schedule."""
    for field in dataclasses.fields(config):
        for schedule, values in (field.metadata.get("only_for") or {}).items():
            chosen = getattr(config, schedule)
            if chosen not in values and getattr(config, field.name) != field.default:
                raise ValueError(
                    f"--{field.name} has no meaning for --{schedule} {chosen}: it is for "
                    f"{' and '.join(values)}."
                )


def recipe_name(recipe: types.ModuleType) -> str:
    """Returns the last part of the recipe's module name."""
    return recipe.__name__.rpartition(".")[-1]
