"""A functional model in float64, and gradients, on every backend."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np

from keras_elu.diagnostics import keras_internals


@contextlib.contextmanager
def precision() -> Iterator[None]:
    """Computes in float64 in the block where float64 is given, on every backend."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(keras_internals.float64_kept())
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        yield


def copied(
    model: keras.Model,
    replacing: Mapping[str, Callable[[keras.Layer], keras.Layer]] | None = None,
) -> keras.Model:
    """Returns a copy of a functional model with float64 weights and computations.

    Args:
        model: A functional model, on any strategy and in any precision.
        replacing: Functions that make another layer out of the float64 copy of a layer, by the name
            of the layer.
    """
    replacing = replacing or {}

    def make(layer):
        if isinstance(layer, keras.Model):
            return copied(layer)
        made = type(layer).from_config(layer.get_config() | {"dtype": "float64"})
        return replacing.get(layer.name, lambda same: same)(made)

    if isinstance(model, keras.Sequential):  # its input may be that of the model around it
        plain = keras.Model(model.inputs[0], model.outputs[0])
    else:
        plain = keras.Model(model.input, model.output)  # not compiled
    copy = keras.models.clone_model(plain, clone_function=make)
    for new, old in zip(copy.variables, plain.variables, strict=True):
        new.assign(keras.ops.convert_to_numpy(old))
    return copy


def gradients(
    function: Callable, values: Sequence[np.ndarray], dtype: str = "float64"
) -> list[np.ndarray]:
    """Returns the gradient of a function of a list of tensors, whose value is one number."""
    tensors = [keras.ops.convert_to_tensor(value, dtype) for value in values]
    match keras.backend.backend():
        case "jax":
            import jax

            found = jax.grad(function)(tensors)
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(tensors)
            found = tape.gradient(value, tensors, unconnected_gradients="zero")
        case "torch":
            import torch

            tensors = [tensor.detach().requires_grad_() for tensor in tensors]
            with torch.enable_grad():
                value = function(tensors)
            found = torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)
        case other:
            raise ValueError(f"The backend {other} has no gradients: use another.")
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


def log_likelihood(logits, labels: np.ndarray):
    """Returns the logarithm of the probability of each label, of shape `(batch,)`."""
    classes = int(logits.shape[-1])
    chosen = keras.ops.one_hot(keras.ops.convert_to_tensor(labels), classes, dtype="float64")
    return keras.ops.sum(chosen * keras.ops.log_softmax(logits), axis=-1)


def checked(model: keras.Model, labels) -> np.ndarray:
    """Returns integer labels of a model with one output of logits.

    Raises:
        ValueError: If the model or the labels are others.
    """
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(
            f"The model has outputs of shape {shape}: give one that returns logits of shape "
            "(batch, classes)."
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"The labels have the shape {labels.shape} and the type {labels.dtype}: give whole "
            "numbers of shape (batch,)."
        )
    return labels.astype("int32")
