"""What every run can be told; one spelling for field, flag and JSON key."""

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
    only_for: dict[str, tuple[str, ...]] | None = None,
) -> Any:
    """Returns the field of a configuration, with what holds for its values.

    Args:
        default: The default.
        between: The smallest and the largest number allowed. None: 1 and the largest int of 32
            bits, or for a float any positive number of float32.
        may_change: Whether a resumed run may have another value: it says how, not what, the run
            computes.
        place: Whether the value says where a run lies; config.json leaves it out.
        only_for: The schedule for which the field has a meaning: its field, and its values.
    """
    metadata = {"between": between, "may_change": may_change, "place": place, "only_for": only_for}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The part of a configuration that all recipes share."""

    dataset: str = "auto"
    """Data set by name, such as mnist, cifar10, imagenet2012 or digits.
    auto: the recipe's own where it is prepared, otherwise the embedded digits."""
    data_dir: _OptionalText = setting(None, may_change=True)
    """Folder of the prepared data sets. None: ~/tensorflow_datasets."""
    manual_dir: _OptionalText = setting(None, may_change=True)
    """Folder of the original archives, to prepare a data set without a download."""
    strategy: Literal["default", "mirrored", "multiworker"] = setting("default", may_change=True)
    """default: one device.
    mirrored: every GPU, or every logical CPU device where there is no GPU.
    multiworker: those of all workers in TF_CONFIG, which keras_elu.launch sets on one machine."""
    virtual_devices: _OptionalInt = setting(None, may_change=True, between=(1, 1024))
    """Logical devices to split the CPU into. None: one."""
    jit_compile: Literal["auto", "on", "off"] = setting("auto", may_change=True)
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
    alpha_end: float = setting(
        1.0, between=(1e-3, 1e3), only_for={"alpha_schedule": ("linear", "cosine")}
    )
    """Linear, cosine: alpha at the end, in parts of --alpha."""
    alpha_until: float = setting(
        1.0, between=(1e-3, 1.0), only_for={"alpha_schedule": ("linear", "cosine")}
    )
    """Linear, cosine: the part of the steps after which alpha is at its end."""
    alpha_knots: _OptionalText = setting(
        None, between=(1e-3, 1e3), only_for={"alpha_schedule": ("knots",)}
    )
    """Knots: alpha in parts of --alpha, as 1,0.5,2: straight lines between places spread evenly
    over the steps."""
    batch_size: IntByDataset = None
    """Images a step, over all replicas."""
    micro_batches: int | Literal["auto"] = setting(1, may_change=True)
    """Parts in which a replica passes its images of a batch through the network, for less memory.
    auto: the least power of 2 with which a step fits."""
    learning_rate: FloatByDataset = None
    """Learning rate; of a schedule, its peak."""
    learning_rate_schedule: _OptionalShape = None
    """How the learning rate changes over the training.
    piecewise: the paper's for CIFAR-100, down to a half, a 20th and a 200th.
    one_cycle: half a cosine wave up and another one down."""
    learning_rate_warmup: _OptionalFloat = setting(None, between=(0.0, 0.999))
    """Part of the steps on which the learning rate rises to its peak, from 0 or, of one_cycle, from
    a 25th. None: 0.05 of cosine, 0.3 of one_cycle, 0 of the others."""
    learning_rate_end: float = setting(
        0.0, between=(0.0, 1.0), only_for={"learning_rate_schedule": ("cosine", "one_cycle")}
    )
    """Cosine, one_cycle: the learning rate at the end, in parts of its peak."""
    learning_rate_knots: _OptionalText = setting(
        None, between=(0.0, 1.0), only_for={"learning_rate_schedule": ("knots",)}
    )
    """Knots: learning rates in parts of the peak, as 0.1,1,0: straight lines between places spread
    evenly over the steps."""
    epochs: IntByDataset = None
    """Passes over the training images."""
    steps_per_epoch: _OptionalInt = None
    """Steps an epoch. None: all training images once, less an incomplete last batch."""
    steps_per_execution: int = setting(1, may_change=True)
    """Steps that run without a return to Python."""
    validation_examples: _OptionalInt = setting(None, between=(0, LARGEST_INT))
    """Images held out of the training set for validation. None: the data set's own choice."""
    checkpoint_every: str = setting("60s", may_change=True)
    """Steps from one checkpoint to the next, such as 100, or seconds, such as 60s."""
    checkpoints_kept: int = setting(2, may_change=True)
    """Number of checkpoints in the folder of the run."""
    recover: int = setting(0, may_change=True, between=(0, LARGEST_INT))
    """How often a run whose loss is not finite goes back to its last checkpoint, and leaves out the
    batches that led there."""
    histograms_every: _OptionalInt = setting(None, may_change=True)
    """Steps from one look into the layers to the next, for TensorBoard: mean and saturated share of
    the activations, histograms of them and of the gradients. None: never."""
    profile: _OptionalText = setting(None, may_change=True)
    """First and last step to profile for TensorBoard, such as 100:110. None: none."""
    seed: int = setting(0, between=(0, 2**32 - 1))
    """Seed of the initial weights, the order of the images and the drop-out."""
    run_dir: _OptionalText = setting(None, place=True)
    """Folder of the run. None: runs/RECIPE-DATASET-TIME."""
    config: _OptionalText = setting(None, place=True)
    """config.json of a run to repeat; flags beside it override it."""
    evaluate: _OptionalText = setting(None, place=True)
    """Folder of a run, checkpoint or .keras file to evaluate, instead of training; with the
    configuration of that run, which flags override."""


MAY_CHANGE = {f.name for f in dataclasses.fields(Config) if f.metadata.get("may_change")}
PLACES = {f.name for f in dataclasses.fields(Config) if f.metadata.get("place")}
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


def _check_schedules(config: Config) -> None:
    """Raises `ValueError` with one sentence for a flag that the schedule has no use for.

    The data set may decide which schedule that is.
    """
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
