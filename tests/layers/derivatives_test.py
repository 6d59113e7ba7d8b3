"""Derivatives of any order in forward and reverse mode, and under each backend's transforms."""

import keras
import numpy as np
import pytest

from keras_elu import layers, schedules

BACKEND = keras.backend.backend()
X = np.array([[-1.0, 0.5, -1e-9, -30.0]], "float32")
TANGENT = np.array([[1.0, 2.0, 3.0, 1.0]], "float32")
ALPHAS = {
    "elu": (lambda: layers.ELU(0.5), 0.5),
    "scheduled": (lambda: layers.ELU(schedules.Linear(1.5, 2.0, steps=4)), 1.5),
    "parametric": (lambda: layers.ParametricELU(0.7), 0.7),
    "pelu": (lambda: layers.ParametricELU(0.7, scale=1.0), 0.7),
}


@pytest.fixture(params=ALPHAS)
def layer_and_slopes(request):
    """A layer, its slope and its curvature at X."""
    make, alpha = ALPHAS[request.param]
    layer = make()
    layer(keras.ops.convert_to_tensor(X))
    exponential = alpha * np.exp(X.astype("float64"))
    # PELU's slope for x > 0 is alpha / scale.
    slope = np.where(X > 0, alpha if request.param == "pelu" else 1.0, exponential)
    return layer, slope, np.where(X > 0, 0.0, exponential)


def forward_tensorflow(function, x, tangent):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        y = function(x)
    return accumulator.jvp(y)


def gradient_tensorflow(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_forward_accumulators_are_exact_eagerly_in_functions_and_over_them(
    layer_and_slopes, jit_compile
):
    import tensorflow as tf

    layer, slope, curvature = layer_and_slopes
    x, tangent = tf.constant(X), tf.constant(TANGENT)

    def compiled(function):
        return tf.function(function, jit_compile=jit_compile)

    for jvp in (
        lambda: forward_tensorflow(layer, x, tangent),
        lambda: compiled(lambda x, t: forward_tensorflow(layer, x, t))(x, tangent),
        lambda: forward_tensorflow(compiled(lambda x: layer(x)), x, tangent),
    ):
        np.testing.assert_allclose(jvp(), slope * TANGENT, rtol=1e-6)

    def gradient(x):
        return gradient_tensorflow(layer, x)

    for jvp in (
        lambda: forward_tensorflow(gradient, x, tangent),
        lambda: compiled(lambda x, t: forward_tensorflow(gradient, x, t))(x, tangent),
    ):
        np.testing.assert_allclose(jvp(), curvature * TANGENT, rtol=1e-6)


@pytest.mark.tensorflow
def test_jacobians_loops_and_vectorized_maps_are_those_of_single_calls(layer_and_slopes):
    import tensorflow as tf

    layer, slope, _ = layer_and_slopes
    rows = tf.constant(np.repeat(X, 3, axis=0))

    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tf.linalg.diag_part(tape.batch_jacobian(y, x))

    def loop(x):
        for _ in tf.range(1):
            x = layer(x)
        return x

    every = np.repeat(slope, 3, axis=0)
    np.testing.assert_allclose(jacobian(rows), every, rtol=1e-6)
    np.testing.assert_allclose(tf.function(jacobian)(rows), every, rtol=1e-6)
    in_loop = tf.function(lambda x: gradient_tensorflow(tf.function(loop), x))
    np.testing.assert_allclose(in_loop(rows), every, rtol=1e-6)
    for transform in (tf.vectorized_map, tf.map_fn):
        single = transform(lambda row: layer(row[None])[0], rows)
        np.testing.assert_allclose(single, layer(rows), rtol=1e-6)
        slopes = transform(lambda row: gradient_tensorflow(layer, row[None])[0], rows)
        np.testing.assert_allclose(slopes, every, rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("shape", [None, [None, None], [None, 4]], ids=str)
def test_unknown_shapes_are_no_obstacle(layer_and_slopes, shape):
    import tensorflow as tf

    layer, slope, _ = layer_and_slopes

    def passes(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, *tape.gradient(y, [x, *layer.trainable_variables])

    signature = [tf.TensorSpec(shape, tf.float32)]
    expected = passes(tf.constant(X))
    for actual, exact in zip(
        tf.function(passes, input_signature=signature)(tf.constant(X)), expected, strict=True
    ):
        np.testing.assert_allclose(actual, exact, rtol=1e-6)
    np.testing.assert_allclose(expected[1], slope, rtol=1e-6)
    plain = tf.function(lambda x: layer(x), input_signature=signature)
    np.testing.assert_allclose(plain(X), expected[0], rtol=1e-6)
    assert plain(np.zeros([0, 4], "float32")).shape == (0, 4)
    assert passes(tf.zeros([0, 4]))[1].shape == (0, 4)


@pytest.mark.tensorflow
def test_ragged_tensors_pass_row_by_row():
    import tensorflow as tf

    x = tf.ragged.constant([[-1.0, 2.0], [], [-0.5]])
    y = layers.ELU(2.0)(x)
    assert y.row_lengths().numpy().tolist() == [2, 0, 1]
    np.testing.assert_allclose(y.flat_values, 2 * np.expm1([-1, np.log(2), -0.5]), rtol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX only")
def test_jax_differentiates_in_both_modes_and_any_order(layer_and_slopes):
    import jax

    layer, slope, curvature = layer_and_slopes
    total = lambda x: layer(x).sum()  # noqa: E731

    def diagonal(matrix):
        return np.diag(np.reshape(matrix, (4, 4)))[None]

    x, tangent = jax.numpy.asarray(X), jax.numpy.asarray(TANGENT)
    for jvp in (
        lambda: jax.jvp(layer, (x,), (tangent,))[1],
        lambda: jax.jit(lambda x, t: jax.jvp(layer, (x,), (t,))[1])(x, tangent),
        lambda: jax.linearize(layer, x)[1](tangent),
    ):
        np.testing.assert_allclose(jvp(), slope * TANGENT, rtol=1e-6)
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(diagonal(jacobian(layer)(x)), slope, rtol=1e-6)
        for outer in (jax.jacfwd, jax.jacrev):
            second = outer(jacobian(total))(x)
            np.testing.assert_allclose(diagonal(second), curvature, rtol=1e-6)
    np.testing.assert_allclose(diagonal(jax.hessian(total)(x)), curvature, rtol=1e-6)
    columns = x.reshape(4, 1, 1)
    np.testing.assert_allclose(jax.vmap(layer)(columns).ravel(), layer(x)[0], rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(total))(columns).ravel(), np.ravel(slope), rtol=1e-6
    )


@pytest.mark.skipif(BACKEND != "jax", reason="JAX only")
def test_jax_differentiates_parameters_in_both_modes():
    import jax

    layer = layers.ParametricELU(0.7)
    layer(X)
    loss = lambda alpha: (layer.stateless_call([alpha], [], X)[0] ** 2).sum()  # noqa: E731
    squares = (np.expm1(X[X < 0].astype("float64")) ** 2).sum()
    alpha = layer.alpha.value
    for gradient in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(gradient(loss)(alpha), [2 * 0.7 * squares], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(jax.hessian(loss)(alpha)), [2 * squares], rtol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch only")
def test_pytorch_differentiates_in_both_modes(layer_and_slopes):
    import torch

    layer, slope, curvature = layer_and_slopes
    x, tangent = torch.from_numpy(X), torch.from_numpy(TANGENT)
    jvp = torch.func.jvp(layer, (x,), (tangent,))[1]
    np.testing.assert_allclose(jvp.detach(), slope * TANGENT, rtol=1e-6)
    hessian = torch.func.hessian(lambda x: layer(x).sum())(x).reshape(4, 4)
    np.testing.assert_allclose(torch.diagonal(hessian)[None].detach(), curvature, rtol=1e-6)
    rows = torch.vmap(layer)(x.reshape(4, 1, 1)).ravel()
    np.testing.assert_allclose(rows.detach(), layer(x)[0].detach(), rtol=1e-6)
    compiled = torch.compile(layer, backend="eager")(x)
    np.testing.assert_allclose(compiled.detach(), layer(x).detach(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@pytest.mark.parametrize(
    "make", [layers.ELU, layers.ParametricELU, lambda: layers.ParametricELU(scale=1.0),
             layers.ShiftedReLU],
)  # fmt: skip
def test_integers_and_booleans_become_floats(make, dtype):
    x = np.array([[0, 1, 3]]).astype(dtype)
    y = make()(keras.ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), x.astype("float32"))
