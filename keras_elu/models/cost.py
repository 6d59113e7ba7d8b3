"""The arithmetic of a network."""

import math
from typing import Any

import keras

_DENSE = (keras.layers.Dense,)
_CONVOLUTIONS = tuple(
    getattr(keras.layers, f"{kind}{rank}D")
    for kind in ("Conv", "DepthwiseConv", "SeparableConv")
    for rank in (1, 2, 3)
    if hasattr(keras.layers, f"{kind}{rank}D")
)
_WITH_KERNEL: Any = (*_DENSE, *_CONVOLUTIONS)
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")  # a layer has one, or the last two


def multiply_accumulates(model: keras.Model) -> int:
    """Returns the multiplications of weights in the forward pass of one example.

    Counts dense and convolutional layers, zeros of the padding included. Leaves out biases,
    activations, pooling and normalisation, which add about a hundredth.

    Args:
        model: Functional or sequential. All sizes except the batch are known. A layer of another
            kind says its own number in an attribute `multiply_accumulates`.

    Raises:
        ValueError: If a size is unknown, or the model has a layer with a kernel of another kind.

    Example:

    >>> from keras_elu import models
    >>> multiply_accumulates(models.mnist_mlp())  # 784 * 128 + 7 * 128 * 128 + 128 * 10
    216320
    """
    total = 0
    # Those of a sequential model have no nodes: it calls each once.
    calls = {
        c["name"]: len(c["inbound_nodes"])
        for c in model.get_config()["layers"]
        if "inbound_nodes" in c
    }
    for layer in model.layers:
        if calls.get(layer.name, 1) > 1 and layer.weights:
            raise ValueError(
                f"The layer {layer.name!r} is called {calls[layer.name]} times: count a model that "
                "calls each of its layers once."
            )
        if isinstance(layer, keras.Model):
            total += multiply_accumulates(layer)
        elif isinstance(layer, _WITH_KERNEL):
            kernels = [getattr(layer, name) for name in _KERNELS if hasattr(layer, name)]
            total += _positions(layer) * sum(math.prod(kernel.shape) for kernel in kernels)
        elif hasattr(layer, "multiply_accumulates"):
            total += layer.multiply_accumulates
        elif any(len(w.shape) > 1 and w.name.endswith("kernel") for w in layer.weights):
            raise ValueError(
                f"The arithmetic of {layer.name!r} ({type(layer).__name__}) is not known: count "
                "models of dense and convolutional layers."
            )
    return total


def pflop(model: keras.Model, examples: float) -> float:
    """Returns the arithmetic of training in units of 10**15 floating-point operations.

    A multiply-accumulate is two operations, and the forward and backward passes together cost three
    times the forward pass.

    Args:
        model: As for `multiply_accumulates`.
        examples: Number of examples that training processes: images times epochs.

    Example:

    >>> from keras_elu import models
    >>> round(pflop(models.alexnet_cifar(), examples=140 * 50_000), 2)
    0.52
    """
    return 2 * 3 * multiply_accumulates(model) * examples / 1e15


def _positions(layer) -> int:
    """How often a kernel is applied to an example."""
    first = getattr(layer, "data_format", None) == "channels_first"
    sides = layer.output.shape[2:] if first else layer.output.shape[1:-1]
    if None in sides:
        raise ValueError(
            f"The output of {layer.name!r} has the shape {tuple(layer.output.shape)}: build the "
            "model for inputs of a known size."
        )
    return math.prod(sides)
