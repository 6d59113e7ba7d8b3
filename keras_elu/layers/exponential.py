"""The exponential linear unit and its gradients, exact to rounding, on every Keras backend.

Each pass over the data is one function of tensors. TensorFlow runs such a function operation by
operation, a trip through memory each, unless XLA compiles it; so here XLA does, whether or not the
model around it is compiled. JAX compiles the whole step anyway, and PyTorch has its own kernel.
"""

import functools
import inspect
import pathlib

import keras
from keras import ops

from keras_elu.layers import subnormal

_EXPORT_FOLDER = str(pathlib.Path(inspect.getfile(keras.export.ExportArchive)).parent)


def elu(x, alpha, learn_alpha: bool = False):
    """`x` for `x > 0`, and `alpha * (exp(x) - 1)` for `x <= 0`.

    Args:
        x: Tensor of floats. Half precision is computed in float32 and rounded once.
        alpha: Positive number or tensor, float32 or wider, that broadcasts to `x`.
        learn_alpha: Whether gradients flow to `alpha`.
    """
    if keras.backend.backend() == "torch":
        return _torch_elu(x, alpha)
    alpha = ops.cast(ops.convert_to_tensor(alpha, _wide(x)), _wide(x))
    exporting = _exporting()
    compiled = keras.backend.backend() == "tensorflow" and not exporting

    def run(function, *arguments):
        return (_compiled(function) if compiled else function)(*arguments)

    @ops.custom_gradient
    def with_gradient(x, alpha):
        def gradients(upstream):
            dx = run(_input_gradient, x, alpha, upstream)
            if not learn_alpha:
                return dx, ops.zeros_like(alpha)
            leading = len(x.shape) - len(alpha.shape)
            shared = (leading + axis for axis, size in enumerate(alpha.shape) if size == 1)
            dalpha = run(_alpha_gradient, x, alpha, upstream, (*range(leading), *shared))
            return dx, ops.reshape(dalpha, alpha.shape)

        return run(_forward, x, alpha, exporting), gradients

    return with_gradient(x, alpha)


def _forward(x, alpha, portable):
    z = ops.cast(x, alpha.dtype)
    y = ops.cast(alpha * _expm1(ops.minimum(z, 0)), x.dtype)
    if portable:
        return ops.where(x > 0, x, y)
    if _dtype(x) == "bfloat16":
        y = subnormal.restore_output(y, x, alpha)
    return ops.where(_positive(x), x, y)


def _input_gradient(x, alpha, upstream):
    z, g = ops.cast(x, alpha.dtype), ops.cast(upstream, alpha.dtype)
    # In two factors, as g * alpha * exp(z) may be a normal number where exp(z) is not.
    far = z < -64
    shifted = g * alpha * ops.exp(ops.minimum(ops.where(far, z + 64, z), 0))
    dx = ops.cast(ops.where(far, shifted * subnormal.EXP_MINUS_64, shifted), x.dtype)
    if _dtype(x) == "bfloat16":
        dx = subnormal.restore_gradient(dx, far, shifted, upstream)
    return ops.where(_positive(x), upstream, dx)


def _alpha_gradient(x, alpha, upstream, shared_axes):
    z, g = ops.cast(x, alpha.dtype), ops.cast(upstream, alpha.dtype)
    return ops.sum(g * _expm1(ops.minimum(z, 0)), axis=shared_axes)


def _expm1(z):
    """`exp(z) - 1` for `z <= 0`, without cancellation near 0.

    With `t = tanh(z / 2)`, `exp(z) = (1 + t) / (1 - t)`. In float32 this errs by at most 6 units in
    the last place and XLA runs it at the speed of memory; its own expm1 takes twice as long for as
    large an error. `z` itself is the rounded value near 0, where `z / 2` may be subnormal.
    """
    if _dtype(z) == "float64":
        return ops.expm1(z)
    t = ops.tanh(0.5 * z)
    return ops.where(z > -1e-7, z, t / (0.5 - 0.5 * t))


def _positive(x):
    """`x > 0`, by the bits, as arithmetic may count positive subnormal numbers as 0."""
    dtype = _dtype(x)
    return x > 0 if dtype == "float64" else subnormal.bitcast(x, subnormal.INTEGERS[dtype]) > 0


def _torch_elu(x, alpha):
    if isinstance(alpha, float):
        return ops.elu(x, alpha)
    z = ops.cast(x, _wide(x))
    return ops.cast(ops.where(z > 0, z, alpha * ops.elu(z)), x.dtype)


def _wide(x) -> str:
    return "float64" if _dtype(x) == "float64" else "float32"


def _dtype(x) -> str:
    return keras.backend.standardize_dtype(x.dtype)


@functools.cache
def _compiled(function):
    import tensorflow as tf

    traced = tf.function(function, jit_compile=True, autograph=False, reduce_retracing=True)

    def run(x, *arguments):
        result = traced(x, *arguments)
        if function is not _alpha_gradient:
            result.set_shape(x.shape)  # forgotten where one trace serves several shapes
        return result

    return run


def _exporting() -> bool:
    """Whether Keras is tracing an export, whose converters know ordinary operations only."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith(_EXPORT_FOLDER):
            return True
        frame = frame.f_back
    return False
