"""First and second derivatives of a function of tensors, on any backend, as NumPy arrays."""

import keras
import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def differentiate(function, x, jit_compile=False):
    """Returns `f(x)`, the gradient of its sum, and the gradient of that gradient's sum."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(function, x, jit_compile)
    return {"jax": _jax, "torch": _torch}[backend](function, x)


def gradient(function, x, jit_compile=False):
    """Returns `f(x)` and the gradient of its sum."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=jit_compile, autograph=False)
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x)

        return tuple(tensor.numpy() for tensor in run(tf.constant(x)))
    if backend == "jax":
        import jax

        y, pull_back = jax.vjp(function, x)
        return tuple(np.asarray(tensor) for tensor in (y, pull_back(jax.numpy.ones_like(y))[0]))
    import torch

    t = torch.from_numpy(x).requires_grad_()
    y = function(t)
    (slope,) = torch.autograd.grad(y.sum(), t)
    return y.detach().numpy(), slope.numpy()


def _tensorflow(function, x, jit_compile):
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = function(x)
            first = inner.gradient(y, x)
        return y, first, outer.gradient(first, x)

    return tuple(tensor.numpy() for tensor in run(tf.constant(x)))


def _jax(function, x):
    import jax

    x = jax.numpy.asarray(x)

    def gradient(x):
        y, pull_back = jax.vjp(function, x)
        return pull_back(jax.numpy.ones_like(y))[0], y

    first, pull_back, y = jax.vjp(gradient, x, has_aux=True)
    second = pull_back(jax.numpy.ones_like(first))[0]
    return tuple(np.asarray(tensor) for tensor in (y, first, second))


def _torch(function, x):
    import torch

    dtype = getattr(torch, x.dtype.name)
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    t = torch.from_numpy(wide).to(dtype).requires_grad_()
    y = function(t)
    (first,) = torch.autograd.grad(y, t, torch.ones_like(y), create_graph=True)
    (second,) = torch.autograd.grad(first, t, torch.ones_like(y))
    return tuple(
        tensor.detach().to(torch.float64).numpy().astype(x.dtype) for tensor in (y, first, second)
    )
