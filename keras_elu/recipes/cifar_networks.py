"""The networks of the paper's table for CIFAR, and how each of them was trained.

The values are those of the publications and their code. Where these are silent, the comment says
what was chosen.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), table 1.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_elu import models, schedules
from keras_elu.optimizers import ScaledSGD

IMAGES = 50_000  # in an epoch of the published schedules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network and its training, as published.

    Attributes:
        make: The factory.
        arguments: Further arguments of the factory.
        activation: The name of the activation, or "auto" for the default of the factory.
        parameters: Number of parameters, without companions, for 10 classes.
        multiply_accumulates: Those of the forward pass of one image, in training.
        preprocessing, augmentation, pad: As in the flags of the recipe; width of the border.
        knots: Learning rates as fractions of the first, joined by lines; None: `piecewise`.
        piecewise: Makes the schedule with steps from the number of steps. Its first value is 1, or
            the published rate.
        multipliers: Factors on the learning rate of variables, for `ScaledSGD`.
        squared_hinge: Whether this is the loss, instead of the cross-entropy.
        hundred: What differs for 100 classes.
    """

    make: Callable[..., keras.Model]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    activation: str = "auto"
    parameters: int
    multiply_accumulates: int
    preprocessing: str = "whiten"
    augmentation: str = "crop"
    pad: int = 4
    batch_size: int
    epochs: int
    learning_rate: float
    knots: str | None = None
    piecewise: Callable[[int], schedules.PiecewiseConstant] = schedules.elu_cifar_11
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float
    multipliers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    squared_hinge: bool = False
    hundred: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def pflop(self) -> float:
        """Arithmetic of the published training, in 10**15 floating-point operations."""
        return 6 * self.multiply_accumulates * self.epochs * IMAGES / 1e15

    def for_classes(self, classes: int) -> "Network":
        """Returns the network for a number of classes."""
        return dataclasses.replace(self, **self.hundred) if classes >= 100 else self

    def optimizer(self, learning_rate) -> keras.Optimizer:
        """Returns the optimizer."""
        settings = {"momentum": self.momentum, "nesterov": self.nesterov}
        if not self.multipliers:
            return keras.optimizers.SGD(learning_rate, **settings)
        return ScaledSGD(self.multipliers, learning_rate=learning_rate, **settings)


def _falls(total: int, *ends: int, by: float = 0.1):
    """A schedule that is multiplied by `by` after each of some epochs of `total`."""

    def piecewise(steps: int) -> schedules.PiecewiseConstant:
        boundaries = [math.ceil(steps * end / total) for end in ends]
        return schedules.PiecewiseConstant(boundaries, [by**i for i in range(len(ends) + 1)])

    return piecewise


def _exponential(per_epoch: float, epochs: int, knots: int = 24) -> str:
    """Knots of `exp(-per_epoch * epoch)`, which lines between them follow to a half percent."""
    places = [epochs * i / (knots - 1) for i in range(knots)]
    return ",".join(f"{math.exp(-per_epoch * epoch):.5g}" for epoch in places)


_HE = {"kernel_initializer": "he_normal"}
_ELU = {
    "activation": "elu",
    "arguments": _HE,
    "batch_size": 100,
    "learning_rate": 0.01,
    "weight_decay": 0.0005,
}

NETWORKS = {
    "elu_cifar_11": Network(
        make=models.elu_cifar_11,
        **_ELU,
        epochs=330,
        parameters=1_641_938,
        multiply_accumulates=157_503_304,
        hundred={"parameters": 1_669_028, "multiply_accumulates": 157_530_304},
    ),
    # The paper's three phases differ in dropout; this is the first, for as long as all of them.
    "elu_cifar_18": Network(
        make=models.elu_cifar_18,
        **_ELU,
        epochs=250,
        parameters=39_226_634,
        multiply_accumulates=1_496_804_608,
        hundred={"parameters": 39_330_404, "multiply_accumulates": 1_496_908_288},
    ),
    # Not in the table of the paper. It wants a larger --learning_rate.
    "elu_resnet": Network(
        make=models.elu_resnet,
        **(_ELU | {"weight_decay": 0.0001}),
        epochs=330,
        parameters=273_050,
        multiply_accumulates=40_813_184,
        hundred={"parameters": 278_900, "multiply_accumulates": 40_818_944},
    ),
    "alexnet_cifar": Network(
        make=models.alexnet_cifar,
        parameters=89_578,
        multiply_accumulates=12_298_240,
        preprocessing="mean",
        augmentation="none",
        batch_size=100,
        epochs=140,
        learning_rate=0.001,
        piecewise=_falls(140, 120, 130),
        weight_decay=0.004,
        multipliers={"bias": 2.0},
        hundred={"parameters": 181_828, "multiply_accumulates": 12_390_400},
    ),
    "deeply_supervised": Network(
        make=models.deeply_supervised,
        parameters=966_986,
        multiply_accumulates=225_067_008,  # 2,580,480 of them by the companions
        preprocessing="unit_contrast",
        batch_size=100,
        epochs=400,
        learning_rate=0.025,
        piecewise=_falls(400, 340, by=0.004),
        weight_decay=0.0005,
        multipliers={"companion.*kernel": 0.001, "companion.*bias": 0.002, "bias": 2.0},
        squared_hinge=True,
        hundred={
            "parameters": 984_356,
            "multiply_accumulates": 249_397_248,
            "augmentation": "none",
            "squared_hinge": False,
        },
    ),
    "network_in_network": Network(
        make=models.network_in_network,
        parameters=966_986,
        multiply_accumulates=222_486_528,
        batch_size=128,
        epochs=260,
        learning_rate=0.1,
        piecewise=_falls(260, 200, 230),
        weight_decay=0.0001,
        multipliers={"class_maps/kernel": 0.1, "class_maps/bias": 0.2, "bias": 2.0},
        hundred={
            "parameters": 984_356,
            "multiply_accumulates": 223_592_448,
            "augmentation": "none",
            "learning_rate": 0.02,
            "weight_decay": 0.0005,
            "multipliers": {"bias": 2.0},
        },
    ),
    # The momentum rises from .5 to .65 in the source.
    "maxout": Network(
        make=models.maxout,
        parameters=16_247_830,
        multiply_accumulates=732_290_696,
        batch_size=128,
        epochs=474,
        learning_rate=0.17,
        knots="1,0.06148",
        momentum=0.65,
        weight_decay=0.0,
        multipliers={"conv": 0.05},
        hundred={
            "parameters": 16_292_920,
            "multiply_accumulates": 732_335_696,
            "augmentation": "none",
        },
    ),
    # The paper gives four learning rates to choose from, and no batch size.
    "all_cnn": Network(
        make=models.all_cnn,
        parameters=1_369_738,
        multiply_accumulates=270_798_336,
        pad=5,
        batch_size=256,
        epochs=350,
        learning_rate=0.05,
        piecewise=_falls(350, 200, 250, 300),
        weight_decay=0.001,
        hundred={"parameters": 1_387_108, "multiply_accumulates": 271_420_416},
    ),
    "highway": Network(
        make=models.highway,
        parameters=2_256_838,
        multiply_accumulates=330_826_728,
        preprocessing="contrast",
        pad=8,
        batch_size=100,
        epochs=400,
        learning_rate=0.025,
        piecewise=_falls(400, 200, 300, 350),
        nesterov=True,
        weight_decay=0.001,
        hundred={"parameters": 2_265_928, "multiply_accumulates": 330_835_728},
    ),
    # Its steps are (1 - .99) times the rate, hence a hundredth of .003 with Keras's momentum.
    "fractional_max_pooling": Network(
        make=models.fractional_max_pooling,
        parameters=79_247_530,
        multiply_accumulates=14_843_687_680,
        preprocessing="range",
        augmentation="affine",
        batch_size=50,
        epochs=810,
        learning_rate=0.00003,
        knots=_exponential(0.005, 810),
        momentum=0.99,
        nesterov=True,
        weight_decay=0.0,
        hundred={
            "arguments": {"width": 64},
            "parameters": 12_770_212,
            "multiply_accumulates": 2_379_061_504,
            "augmentation": "none",
            "epochs": 250,
            "knots": _exponential(0.005, 250),
        },
    ),
}


def table() -> str:
    """Returns the networks with their parameters and the cost of their training, as paragraphs."""
    lines = []
    for name, network in NETWORKS.items():
        sizes = [network.for_classes(classes) for classes in (10, 100)]
        parameters = " or ".join(f"{size.parameters:,}" for size in sizes)
        cost = " or ".join(f"{round(size.pflop, 1):,}" for size in sizes)
        lines.append(f"{name}: {parameters} parameters, {cost} PFLOP")
    return "\n\n".join(lines)


def companions(steps: int) -> schedules.Knots:
    """Returns the weight of the companions of the deeply-supervised network.

    It falls as `(1 + t / 10000)**-.75` in the first quarter of the training, where `t` goes to
    50,000, and is 0 from then on.
    """
    quarter = max(2, steps // 4)
    parts = 8
    knots = sorted({quarter * i // parts for i in range(parts)} | {quarter - 1})
    values = [(1 + 5 * step / quarter) ** -0.75 for step in knots]
    return schedules.Knots([*knots, quarter], [*values, 0.0])


def compile_arguments(network: Network) -> dict[str, Any]:
    """Returns the loss and the metrics."""
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = models.squared_hinge if network.squared_hinge else entropy
    if network.make is models.deeply_supervised:
        metric = keras.metrics.MeanMetricWrapper(models.companion_accuracy, name="accuracy")
        return {"loss": models.CompanionLoss(loss), "metrics": [metric]}
    return {"loss": loss, "metrics": ["accuracy"]}
