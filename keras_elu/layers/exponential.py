"""The exponential linear unit and its derivatives, exact to rounding, on every Keras backend."""

import functools

import keras
from keras import ops

_HALF = ("float16", "bfloat16")
_EXP_MINUS_4 = 0.01831563888873418


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
    if keras.backend.backend() == "jax":
        return _jax_function()(x, alpha, learn_alpha)
    return _tensorflow_elu(x, alpha, learn_alpha)


def _tensorflow_elu(x, alpha, learn_alpha):
    """Lets XLA compile each pass, or adds ordinary operations to a graph.

    TensorFlow makes a trip through memory for every operation, unless XLA fuses them. So XLA
    compiles eager calls and all calls under a tape, whether or not it compiles the model. Any
    other graph may be exported, and gets operations that every converter knows.
    """
    import tensorflow as tf

    if isinstance(x, tf.RaggedTensor):
        return x.with_flat_values(_tensorflow_elu(x.flat_values, alpha, learn_alpha))
    compiled = tf.executing_eagerly() or _tape_recording()()
    shared_axes = None
    if learn_alpha:
        rank = 1 + len(alpha.shape) if x.shape.rank is None else len(x.shape)
        leading = rank - len(alpha.shape)
        ones = (leading + axis for axis, size in enumerate(alpha.shape) if size == 1)
        shared_axes = (*range(leading), *ones)
    y = _tensorflow_function(compiled, shared_axes)(x, alpha)
    y.set_shape(x.shape)  # one trace may serve several shapes and forget them
    return y


@functools.cache
def _tape_recording():
    """TensorFlow's test for a recording tape, which has no public name."""
    import tensorflow as tf

    if not tf.__version__.startswith("2.21."):
        raise ImportError(f"keras_elu needs TensorFlow 2.21, not {tf.__version__}: install that.")
    from tensorflow.python.eager import record

    return record.could_possibly_record


@functools.cache
def _tensorflow_function(compiled, shared_axes):
    """The function for an `alpha` that is shared along these axes, or None for a constant one."""
    import tensorflow as tf

    def compile(function):
        return tf.function(function, jit_compile=True, autograph=False, reduce_retracing=True)

    def differentiable(forward, input_gradient, alpha_gradient):
        @tf.custom_gradient
        def function(x, alpha):
            def gradients(upstream):
                dx = input_gradient(x, alpha, upstream)
                dx.set_shape(x.shape)
                if shared_axes is None:
                    return dx, tf.zeros_like(alpha)
                dalpha = alpha_gradient(x, alpha, upstream, shared_axes)
                dalpha = tf.reshape(dalpha, tf.shape(alpha))
                dalpha.set_shape(alpha.shape)
                return dx, dalpha

            return forward(x, alpha), gradients

        return function

    if not compiled:
        return differentiable(_portable_forward, _input_gradient, _alpha_gradient)
    # In a graph, forward accumulators ignore the outer gradient and differentiate the inside.
    inside = differentiable(_forward, _input_gradient, _alpha_gradient)
    return differentiable(compile(inside), compile(_input_gradient), compile(_alpha_gradient))


def _forward(x, alpha):
    z = ops.cast(x, alpha.dtype)
    y = ops.where(z > 0, z, alpha * _expm1(ops.minimum(z, 0), _dtype(x)))
    return ops.cast(y, x.dtype)


def _portable_forward(x, alpha):
    """The same function in operations that every converter keeps exact and quantizes well.

    `expm1(z) = 2 * softsign(tanh(z)) / (1 + exp(z))` for `z <= 0`. Converters lower `Expm1` to
    `exp(z) - 1`, which loses small numbers. They also give both branches of a `where` one scale in
    8 bits, too coarse for the negative branch.
    """
    wide = ops.cast(x, alpha.dtype)
    z = ops.minimum(wide, 0)
    negative = 2 * alpha * ops.softsign(ops.tanh(z)) / (1 + ops.exp(z))
    return ops.cast(ops.relu(wide) + negative, x.dtype)


def _input_gradient(x, alpha, upstream):
    """`upstream * alpha * exp(z)` for `z <= 0`, computed without `exp(z)`, which may underflow."""
    z, g = ops.cast(x, alpha.dtype), ops.cast(upstream, alpha.dtype)
    negative = ops.minimum(z, 0)
    if _dtype(x) in _HALF:
        dx = g * ops.exp(negative + 4) * (alpha * _EXP_MINUS_4)
    else:
        root = ops.exp(0.5 * negative)
        dx = g * (alpha * root) * root
    return ops.cast(ops.where(z > 0, g, dx), x.dtype)


def _alpha_gradient(x, alpha, upstream, shared_axes):
    z, g = ops.cast(x, alpha.dtype), ops.cast(upstream, alpha.dtype)
    return ops.sum(g * _expm1(ops.minimum(z, 0), _dtype(z)), axis=shared_axes)


def _expm1(z, dtype):
    """`exp(z) - 1` for `z <= 0`, without cancellation near 0, for a result of `dtype`.

    XLA's own expm1 takes twice the time of a trip through memory. In float32, `t = tanh(z / 2)`
    gives `exp(z) = (1 + t) / (1 - t)`, with an error of at most 6 units in the last place; near 0
    the rounded value is `z` itself, where `z / 2` may be subnormal. In half precision two terms of
    the series are enough near 0. The exponential is that of the gradient: XLA computes it once.
    """
    if dtype == "float64":
        return ops.expm1(z)
    if dtype in _HALF:
        far = ops.exp(z + 4) * _EXP_MINUS_4 - 1
        return ops.where(z > -1 / 64, z + 0.5 * z * z, far)
    t = ops.tanh(0.5 * z)
    return ops.where(z > -1e-7, z, t / (0.5 - 0.5 * t))


@functools.cache
def _jax_function():
    import jax

    # The backward pass keeps `x` and recomputes the slope, which would be stored in float32.
    slope_times = jax.checkpoint(_input_gradient, prevent_cse=False)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
    def function(x, alpha, learn_alpha):
        return _forward(x, alpha)

    @function.defjvp
    def derivative(learn_alpha, primals, tangents):
        x, alpha = primals
        dx, dalpha = tangents
        dy = slope_times(x, alpha, dx)
        if learn_alpha:
            z = ops.minimum(ops.cast(x, alpha.dtype), 0)
            dy += ops.cast(dalpha * _expm1(z, _dtype(z)), x.dtype)
        return function(x, alpha, learn_alpha), dy

    return function


def _torch_elu(x, alpha):
    if isinstance(alpha, float):
        return ops.elu(x, alpha)
    z = ops.cast(x, _wide(x))
    return ops.cast(ops.where(z > 0, z, alpha * ops.elu(z)), x.dtype)


def _wide(x) -> str:
    return "float64" if _dtype(x) == "float64" else "float32"


def _dtype(x) -> str:
    return keras.backend.standardize_dtype(x.dtype)
