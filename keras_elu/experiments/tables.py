"""The experiments: what is compared, under which flags, and what is measured."""

import keras

from keras_elu import initializers, models
from keras_elu.experiments import measures
from keras_elu.experiments.experiment import Arm, Experiment, Ordering, Panel
from keras_elu.models import units
from keras_elu.recipes import autoencoder, cifar, fast_cifar, imagenet, mnist

_ELU, _SHIFTED, _LEAKY, _RELU = "elu", "shifted_relu", "leaky_relu", "relu"
_FOUR = (_ELU, _SHIFTED, _LEAKY, _RELU)
_BY_NAME = {name: Arm({"activation": name}) for name in _FOUR}


def _five_by_256(config, dataset, activation):
    """The network of the appendix: 5 layers of 256 units."""
    net = units.Units(activation, batch_norm=False, kernel_initializer="he_uniform")
    x = inputs = keras.Input(dataset.image_shape, name="images")
    x = keras.layers.Flatten(name="flatten")(x)
    for _ in range(5):
        x = net.activate(net.dense(x, 256))
    logits = net.dense(x, dataset.classes, name="logits", dtype=units.logits_dtype())
    return keras.Model(inputs, logits, name="mnist_5x256")


def _cifar_11_batch_norm(config, dataset, activation):
    """The network of the recipe, with batch normalisation after every activation."""
    return models.elu_cifar_11(
        input_shape=dataset.image_shape,
        classes=dataset.classes,
        activation=activation,
        batch_norm=True,
        kernel_initializer="he_normal",
    )


def _fast_cifar(**arguments):
    """The network of the recipe for fast training, with further arguments of its factory."""

    def network(config, dataset, activation):
        return fast_cifar.network(config, dataset, activation, **arguments)

    return network


# A quarter of the arithmetic of the recipe's network, and fewer epochs.
_FAST = {"dataset": "cifar10", "widths": "32,128,128", "epochs": 8}
_TRICKS = {
    "elu": {},
    "elu_gain_1": {"gain": 1.0},
    "elu_slow_biases": {"bias_learning_rate": 1.0},
    "elu_hard_labels": {"label_smoothing": 0.0},
    "elu_random_mirror": {"augmentation": "mirror"},
    "elu_no_shift": {"shift": 0},
    "elu_no_decay": {"weight_decay": 0.0},
}

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="mnist",
            title="MNIST: median activation and training loss",
            paper="Section 4.1 and the appendix: ELU has the smallest median activation "
            "throughout, its training error falls fastest, and the medians of its units vary "
            "least from epoch to epoch.",
            recipe=mnist,
            flags={"dataset": "mnist", "learning_rate": 0.01, "epochs": 100},
            arms={
                **_BY_NAME,
                "elu_5x256": Arm({"activation": _ELU}, _five_by_256),
                "relu_5x256": Arm({"activation": _RELU}, _five_by_256),
            },
            seeds=range(5),
            measures={
                "absolute median activation, mean after epoch 25": measures.late_size(
                    "median_activation"
                ),
                "training loss, mean to epoch 25": measures.early("loss"),
                "variance of the unit medians": measures.last("median_variance"),
                "test error": measures.test_error,
            },
            orderings=(
                Ordering("absolute median activation, mean after epoch 25", (_ELU, _LEAKY, _RELU)),
                *(
                    Ordering("training loss, mean to epoch 25", (_ELU, other))
                    for other in (_SHIFTED, _LEAKY, _RELU)
                ),
                Ordering("variance of the unit medians", ("elu_5x256", "relu_5x256")),
            ),
            panels=(
                Panel("median_activation", "median activation", _FOUR),
                Panel("loss", "training loss", _FOUR, log=True),
                Panel(
                    "median_variance",
                    "variance of the unit medians",
                    ("elu_5x256", "relu_5x256"),
                    log=True,
                ),
            ),
            observed=1024,
        ),
        Experiment(
            name="autoencoder",
            title="Autoencoder on MNIST: reconstruction",
            paper="Section 4.1: ELU has the lowest training and test reconstruction error at "
            "every learning rate, and larger learning rates are better.",
            recipe=autoencoder,
            # Without held-out images, the validation images are the test images.
            flags={"dataset": "mnist", "epochs": 100, "validation_examples": 0},
            arms=_BY_NAME,
            cases={
                rate: {"learning_rate": float(rate)} for rate in ("1e-2", "1e-3", "1e-4", "1e-5")
            },
            seeds=range(1),
            measures={
                "training loss": measures.last("loss"),
                "test loss": measures.test_loss,
            },
            orderings=[
                Ordering(measure, (_ELU, other))
                for measure in ("training loss", "test loss")
                for other in (_SHIFTED, _LEAKY, _RELU)
            ],
            panels=(
                Panel("loss", "training loss", _FOUR, log=True),
                Panel("val_loss", "test loss", _FOUR, log=True),
            ),
        ),
        Experiment(
            name="cifar100",
            title="CIFAR-100: 11 convolutions, a tenth of the paper's schedule",
            paper="Section 4.2, after 165,000 steps, in ten runs: ELU errs on 28.75 ± 0.24% of "
            "the test images, shifted ReLU on 29.35 ± 0.29%, leaky ReLU on 30.59 ± 0.29% and ReLU "
            "on 31.56 ± 0.37%. Batch normalisation helps ReLU and does not help ELU; ELU without "
            "it is better than ReLU with it.",
            recipe=cifar,
            flags={
                "dataset": "cifar100",
                "epochs": 33,
                "validation_examples": 0,
                "precision": "mixed_bfloat16",
            },
            arms={
                **_BY_NAME,
                "elu_batch_norm": Arm({"activation": _ELU}, _cifar_11_batch_norm),
                "relu_batch_norm": Arm({"activation": _RELU}, _cifar_11_batch_norm),
            },
            seeds=range(3),
            measures={
                "test error": measures.test_error,
                "training loss": measures.last("loss"),
            },
            orderings=(
                Ordering("test error", _FOUR),
                Ordering("training loss", (_ELU, _RELU)),
                Ordering("test error", ("relu_batch_norm", _RELU)),
                Ordering("test error", (_ELU, "elu_batch_norm")),
                Ordering("test error", (_ELU, "relu_batch_norm")),
            ),
            panels=(
                Panel("loss", "training loss", _FOUR),
                Panel("val_error", "test error", _FOUR),
                Panel(
                    "val_error",
                    "test error",
                    (_ELU, "elu_batch_norm", _RELU, "relu_batch_norm"),
                ),
            ),
        ),
        Experiment(
            name="imagenet_proxy",
            title="Imagenette: the 15-layer network at a quarter of its width",
            paper="Section 4.4, on ImageNet at full width: ELU reaches a top-5 error of 20% after "
            "160,000 steps and ReLU after 200,000, a ratio of 0.8. A step with ELU takes 5.8% "
            "longer.",
            recipe=imagenet,
            flags={
                "dataset": "imagenette/160px-v2",
                "image_size": 112,
                "width": 0.25,
                "batch_size": 64,
                "epochs": 30,
                "precision": "mixed_bfloat16",
            },
            arms={name: _BY_NAME[name] for name in (_ELU, _RELU)},
            seeds=range(3),
            measures={
                "steps to the common error": measures.steps_to_common_error,
                "seconds per 1,000 images": measures.seconds_per_thousand,
                "test error": measures.test_error,
            },
            orderings=(
                Ordering("steps to the common error", (_ELU, _RELU)),
                Ordering("seconds per 1,000 images", (_RELU, _ELU)),
                Ordering("test error", (_ELU, _RELU)),
            ),
            panels=(
                Panel("val_error", "validation error", (_ELU, _RELU)),
                Panel("loss", "training loss", (_ELU, _RELU)),
            ),
        ),
        Experiment(
            name="batch_norm",
            title="CIFAR-10: a residual network with batch normalisation",
            paper="Not in the paper. In later work, ELU and ReLU are level in residual networks "
            "with batch normalisation, or ELU is behind.",
            recipe=cifar,
            flags={
                "dataset": "cifar10",
                "network": "elu_resnet",
                "learning_rate": 0.1,
                "learning_rate_schedule": "cosine",
                "epochs": 20,
                "validation_examples": 0,
                "precision": "mixed_bfloat16",
            },
            arms={name: _BY_NAME[name] for name in (_ELU, _RELU)},
            seeds=range(3),
            measures={
                "test error": measures.test_error,
                "training loss": measures.last("loss"),
            },
            orderings=(Ordering("test error", (_RELU, _ELU)),),
            panels=(
                Panel("loss", "training loss", (_ELU, _RELU)),
                Panel("val_error", "test error", (_ELU, _RELU)),
            ),
        ),
        Experiment(
            name="fast_cifar",
            title="CIFAR-10 in 8 epochs: activation and gain",
            paper="Not in the paper. With a gain, ELU after batch normalisation bends where its "
            "inputs are, and is level with GELU.",
            recipe=fast_cifar,
            flags=_FAST,
            arms={name: Arm({"activation": name}) for name in (_ELU, "gelu", _RELU)},
            cases={f"gain {gain:g}": {"gain": gain} for gain in (1.0, 2.0, 3.3, 5.0)},
            seeds=range(3),
            measures={"held-out error": measures.last("val_error"), "PFLOP": measures.pflop},
            orderings=(Ordering("held-out error", (_ELU, _RELU)),),
            panels=(Panel("val_error", "held-out error", (_ELU, "gelu", _RELU)),),
            tested=False,
        ),
        Experiment(
            name="fast_cifar_tricks",
            title="CIFAR-10 in 8 epochs: without each of the tricks",
            paper="Not in the paper. Each part of the recipe lowers the error.",
            recipe=fast_cifar,
            flags=_FAST,
            arms={
                **{name: Arm({"activation": _ELU, **flags}) for name, flags in _TRICKS.items()},
                "elu_no_whitening": Arm({"activation": _ELU}, _fast_cifar(whiten=False)),
                "elu_random_start": Arm(
                    {"activation": _ELU},
                    _fast_cifar(kernel_initializer=initializers.pytorch_default()),
                ),
            },
            seeds=range(3),
            measures={"held-out error": measures.last("val_error"), "PFLOP": measures.pflop},
            orderings=[
                Ordering("held-out error", (_ELU, arm))
                for arm in (*_TRICKS, "elu_no_whitening", "elu_random_start")
                if arm != _ELU
            ],
            panels=(
                Panel(
                    "val_error",
                    "held-out error",
                    (*_TRICKS, "elu_no_whitening", "elu_random_start"),
                ),
            ),
            tested=False,
        ),
    )
}
