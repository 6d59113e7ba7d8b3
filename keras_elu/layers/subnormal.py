"""bfloat16 results below the normal range, where float32 arithmetic is no help.

bfloat16 has the exponents of float32, and TensorFlow and XLA let the processor count float32
numbers below 2**-126 as 0. But the bits of a bfloat16 below 2**-125 are an integer: its magnitude
in units of 2**-133. So here such magnitudes are computed scaled up, and put down as bits.
"""

import keras
from keras import ops

EXP_MINUS_64 = 1.6038108905486378e-28
INTEGERS = {"bfloat16": "int16", "float16": "int16", "float32": "int32"}  # of the same width
_UNIT = 2.0**-133
_SCALE = 2.0**64
_SIGN = -0x8000


def bitcast(x, dtype):
    """`x` read as a `dtype` of the same width."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.bitcast(x, dtype)  # keras.ops.view wants a static shape
    return ops.view(x, dtype)


def restore_output(y, x, alpha):
    """Returns `y`, the ELU of a negative `x`, with what was lost below the normal range."""
    integer = bitcast(x, "int16")
    subnormal = integer < _SIGN + 0x80
    units = ops.cast(integer & 0x7F, "float32")
    # Near 0 the function is alpha * x.
    scaled = alpha * ops.where(
        subnormal, units * (_UNIT * _SCALE), ops.cast(x, "float32") * -_SCALE
    )
    y = ops.where(subnormal, ops.cast(scaled * (-1 / _SCALE), "bfloat16"), y)
    return _restore(y, scaled * (1 / _SCALE / _UNIT), integer)


def restore_gradient(dx, far, shifted, upstream):
    """Returns the gradient `dx` with what was lost below the normal range.

    Args:
        dx: `upstream * alpha * exp(x)` for a negative `x`, bfloat16.
        far: `x < -64`, where alone `dx` can be lost.
        shifted: `exp(64) * dx` in float32, where `far`.
        upstream: The gradient of the output, bfloat16.
    """
    units = ops.where(far, ops.abs(shifted) * (EXP_MINUS_64 / _UNIT), 256)
    return _restore(dx, units, bitcast(upstream, "int16"))


def _restore(normal, units, sign):
    """`normal`, or where they are few, `units` with the sign bit of `sign`."""
    few = bitcast(ops.cast(ops.round(units), "int16") | (sign & _SIGN), "bfloat16")
    return ops.where(units < 256, few, normal)
