"""Training less than all layers: frozen ones, and a slower backbone."""

import keras

from keras_elu.steps import keras_internals
from keras_elu.training.config import Config


def prepare(network: keras.Model, optimizer: keras.Optimizer, config: Config) -> None:
    """Freezes layers, and slows the learning of all but the last, as a configuration says.

    Args:
        network: The network, before it is compiled.
        optimizer: The optimizer, before it is built.
        config: The configuration.

    Raises:
        ValueError: With one sentence, if a prefix fits no layer, or no layer is left to train.
    """
    layers = [layer for layer in network.layers if layer.weights]
    for prefix in (config.freeze or "").split(",") if config.freeze else []:
        frozen = [layer for layer in layers if prefix and layer.name.startswith(prefix)]
        if not frozen:
            names = [layer.name for layer in layers]
            shown = ", ".join(names if len(names) <= 8 else [*names[:7], "...", names[-1]])
            raise ValueError(
                f"--freeze {prefix!r} begins the name of no layer with weights: they are {shown}."
            )
        for layer in frozen:
            layer.trainable = False
    if not network.trainable_variables:
        raise ValueError(f"--freeze {config.freeze} leaves no layer to train: name fewer.")
    if config.backbone_learning_rate != 1:
        last = {id(variable) for variable in layers[-1].trainable_variables}
        keras_internals.scale_learning_rate(
            optimizer,
            lambda variable: 1.0 if id(variable) in last else config.backbone_learning_rate,
        )
