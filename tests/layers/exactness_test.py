"""ELU against float64: every finite half-precision number, and the whole range of float32."""

import keras
import mpmath
import numpy as np
import pytest
from derivatives import BFLOAT16, differentiate

from keras_elu import layers

ALPHAS = [0.5, 1.0, 1.6733]
TINY = float(np.finfo(np.float32).tiny)
BACKEND = keras.backend.backend()
MODES = [False, True] if BACKEND == "tensorflow" else [False]


def finite_numbers(dtype):
    """Every finite number of a half precision; of float32, about two million of both signs."""
    if dtype == np.float32:
        bits = np.concatenate([np.arange(0, 2**32, 2003), [2**31 + 1, 2**23, 2**23 - 1, 1]])
        x = bits.astype(np.uint32).view(np.float32)
    else:
        x = np.arange(2**16, dtype=np.uint16).view(dtype)
    return x[np.isfinite(x.astype(np.float32))]


def oracle(x, alpha):
    """The function and its gradient in float64."""
    z = np.minimum(x, 0)
    return np.where(x > 0, x, alpha * np.expm1(z)), np.where(x > 0, 1, alpha * np.exp(z))


def distance(actual, exact):
    """How many representable numbers lie between `actual` and the correctly rounded `exact`."""

    def place(x):
        bits = x.view(f"i{x.dtype.itemsize}").astype(np.int64)
        return np.where(bits < 0, -(bits & np.iinfo(f"i{x.dtype.itemsize}").max), bits)

    with np.errstate(over="ignore"):
        return np.abs(place(actual) - place(exact.astype(actual.dtype)))


def test_the_oracle_agrees_with_fifty_digits():
    x = np.concatenate([-np.logspace(-37, 2, 200), [-1e-3, -0.6931, -87.4, 0.5]])
    with mpmath.workdps(50):
        value = [float(v if v > 0 else 1.6733 * mpmath.expm1(v)) for v in map(mpmath.mpf, x)]
        slope = [float(1 if v > 0 else 1.6733 * mpmath.exp(v)) for v in map(mpmath.mpf, x)]
    np.testing.assert_allclose(oracle(x, 1.6733)[0], value, rtol=1e-15)
    np.testing.assert_allclose(oracle(x, 1.6733)[1], slope, rtol=1e-15)


def without_tape(layer, x, jit_compile):
    """The layer in a graph without derivatives, which may be exported."""
    import tensorflow as tf

    return tf.function(layer, jit_compile=jit_compile)(tf.constant(x)).numpy()


@pytest.mark.parametrize("jit_compile", MODES)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_half_precision_is_within_one_ulp_at_every_normal_number(dtype, alpha, jit_compile):
    x = finite_numbers(dtype)
    assert len(x) in (63488, 65280)
    layer = layers.ELU(alpha, dtype=dtype.name)
    y, slope, _ = differentiate(layer, x, jit_compile)
    outputs = [y] if BACKEND != "tensorflow" else [y, without_tape(layer, x, jit_compile)]
    value, gradient = oracle(x.astype(np.float64), alpha)
    if dtype == np.float16 or BACKEND == "torch":
        normal = steep = np.full(len(x), True)  # subnormal numbers too
    else:
        zero = np.abs(x.astype(np.float64)) < TINY
        normal, steep = (np.abs(value) >= TINY) & ~zero, (gradient >= TINY) & ~zero
        assert np.isin(slope[zero], np.array([1, alpha]).astype(dtype)).all()
        assert (slope[gradient < TINY].astype(np.float64) <= TINY).all()
    for output in outputs:
        assert distance(output, value)[normal].max() <= 1
        assert (np.abs(output[~normal].astype(np.float64)) <= TINY).all()
    assert distance(slope, gradient)[steep].max() <= 1


@pytest.mark.tensorflow
@pytest.mark.parametrize(("dtype", "count"), [(BFLOAT16, 487), (np.dtype(np.float16), 178)])
def test_keras_loses_the_gradient_at_as_many_numbers(dtype, count):
    # What we are measured against; TensorFlow 2.22 is to mend its kernel.
    # https://github.com/tensorflow/tensorflow/issues/124902
    x = finite_numbers(dtype)
    _, slope, _ = differentiate(keras.layers.ELU(dtype=dtype.name), x)
    _, gradient = oracle(x.astype(np.float64), 1.0)
    normal = gradient >= (TINY if dtype == BFLOAT16 else 2.0**-14)
    assert ((slope == 0) & normal).sum() == count


@pytest.mark.parametrize("jit_compile", MODES)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_float32_is_within_eight_ulps_at_normal_numbers(alpha, jit_compile):
    x = finite_numbers(np.dtype(np.float32))
    layer = layers.ELU(alpha)
    y, slope, _ = differentiate(layer, x, jit_compile)
    outputs = [y] if BACKEND != "tensorflow" else [y, without_tape(layer, x, jit_compile)]
    value, gradient = oracle(x.astype(np.float64), alpha)
    zero = np.abs(x) < TINY  # counts as 0
    normal = (np.abs(value) >= TINY) & ~((x < 0) & zero)
    for output in outputs:
        keeps = normal if output is y and BACKEND == "torch" else normal & ~zero
        assert distance(output, value)[keeps].max() <= 8
        assert np.abs(output[~normal]).max() <= 2 * TINY
        assert np.abs(output[zero]).max() <= 2 * TINY
    assert distance(slope, gradient)[(gradient >= TINY) & ~zero].max() <= 8
    assert np.abs(slope[gradient < TINY]).max() <= TINY
    assert np.isin(slope[zero], np.float32([1, alpha])).all()


def test_float64_is_exact_to_rounding():
    if BACKEND == "jax":
        pytest.skip("JAX computes in float32 unless told otherwise")
    x = np.concatenate([-np.logspace(-300, 2.5, 1000), np.logspace(-300, 300, 100)])
    layer = layers.ELU(1.6733, dtype="float64")
    y, slope, _ = differentiate(layer, x)
    value, gradient = oracle(x, 1.6733)
    assert distance(y, value).max() <= 8
    if BACKEND == "tensorflow":
        for jit_compile in MODES:
            assert distance(without_tape(layer, x, jit_compile), value).max() <= 8
    assert distance(slope, gradient).max() <= 8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_special_values(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0]).astype(
        BFLOAT16 if dtype == "bfloat16" else dtype
    )
    y, slope, _ = differentiate(layers.ELU(0.5, dtype=dtype), x)
    np.testing.assert_array_equal(y.astype(float), [np.inf, -0.5, np.nan, 0, 0])
    np.testing.assert_array_equal(slope.astype(float)[[0, 1, 3, 4]], [1, 0, 0.5, 0.5])


@pytest.mark.parametrize("jit_compile", MODES)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_second_derivatives_match_float64(alpha, jit_compile):
    x = np.concatenate([-np.logspace(-30, 1.9, 500), np.logspace(-30, 30, 50), [-1e30, -3e38]])
    x = x.astype(np.float32)
    _, _, curvature = differentiate(layers.ELU(alpha), x, jit_compile)
    exact = np.where(x > 0, 0, alpha * np.exp(np.minimum(x, 0).astype(np.float64)))
    np.testing.assert_allclose(curvature, exact, rtol=1e-6, atol=TINY)


def test_an_upstream_gradient_scales_the_slope():
    lowest = -87 if BACKEND == "torch" else -100  # PyTorch's kernel takes exp(x)
    x = np.linspace(lowest, 5, 1000, dtype=np.float32)
    weight = np.float32(1e20)
    _, slope, _ = differentiate(lambda x: weight * layers.ELU(1.6733)(x), x)
    _, gradient = oracle(x.astype(np.float64), 1.6733)
    np.testing.assert_allclose(slope, 1e20 * gradient, rtol=1e-6)
