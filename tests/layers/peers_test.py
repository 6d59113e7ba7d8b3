"""The layers of the networks that the paper compares itself with, against NumPy written out.

Gradients are compared with central differences of that NumPy code, in float64.
"""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
from derivatives import gradient

from keras_elu import layers

TENSORFLOW = keras.backend.backend() == "tensorflow"
JAX = keras.backend.backend() == "jax"  # has no float64 by default


def maxout(x, pieces):
    *leading, features = x.shape
    y = np.empty((*leading, features // pieces))
    for unit in range(features // pieces):
        y[..., unit] = x[..., unit * pieces : (unit + 1) * pieces].max(axis=-1)
    return y


def highway(x):
    transformed, gate, carried = np.split(x, 3, axis=-1)
    t = 1 / (1 + np.exp(-gate))
    return t * transformed + (1 - t) * carried


def response(x, size, alpha, beta):
    y = np.empty_like(x)
    for b, i, j, c in np.ndindex(x.shape):
        top, left = max(i - size // 2, 0), max(j - size // 2, 0)
        window = x[b, top : i + size // 2 + 1, left : j + size // 2 + 1, c]
        y[b, i, j, c] = x[b, i, j, c] / (1 + alpha / size**2 * (window**2).sum()) ** beta
    return y


def pooled(x, rows, columns):
    """The maxima over the windows whose rows and columns are slices."""
    outputs = [[x[:, r, c].max(axis=(1, 2)) for c in columns] for r in rows]
    return np.stack([np.stack(row, axis=1) for row in outputs], axis=1)


def ceil_windows(side, size, strides):
    starts = itertools.takewhile(
        lambda start: start == 0 or start - strides + size < side, itertools.count(0, strides)
    )
    return [slice(start, min(start + size, side)) for start in starts]


def regions(n, m, size, u):
    """Graham's regions, as PyTorch places them."""
    step = (n - size) / (m - 1) if m > 1 else 0
    starts = [int((i + u) * step) - int(u * step) for i in range(m - 1)] + [n - size]
    return [slice(start, start + size) for start in starts]


def fractional(x, ratio, size):
    sides = [regions(n, round(n / ratio), size, 0.5) for n in x.shape[1:3]]
    return pooled(x, *sides)


def ceil_pooled(x, size, strides):
    return pooled(x, *(ceil_windows(side, size, strides) for side in x.shape[1:3]))


class Joined(keras.layers.Layer):
    """A highway gate whose three inputs are the thirds of one tensor."""

    def call(self, x):
        return layers.HighwayGate()(keras.ops.split(x, 3, axis=-1))


CUBE_ROOT = 2 ** (1 / 3)
CASES = {
    "maxout": (lambda: layers.Maxout(3), functools.partial(maxout, pieces=3), (2, 3, 6)),
    "maxout of maps": (lambda: layers.Maxout(2), functools.partial(maxout, pieces=2), (2, 3, 2, 4)),
    "highway": (Joined, highway, (2, 3, 3, 6)),
    "response": (
        lambda: layers.ResponseNormalization2D(3, 2.0, 0.75),
        functools.partial(response, size=3, alpha=2.0, beta=0.75),
        (2, 4, 5, 2),
    ),
    "response over 5": (
        lambda: layers.ResponseNormalization2D(5, 0.5, 1.5),
        functools.partial(response, size=5, alpha=0.5, beta=1.5),
        (1, 4, 3, 2),
    ),
    "ceil pooling 4/2": (
        lambda: layers.CeilMaxPooling2D(4, 2),
        functools.partial(ceil_pooled, size=4, strides=2),
        (2, 9, 8, 2),
    ),
    "ceil pooling 3/2": (
        lambda: layers.CeilMaxPooling2D(3, 2),
        functools.partial(ceil_pooled, size=3, strides=2),
        (2, 6, 2, 2),
    ),
    "fractional": (
        lambda: layers.FractionalMaxPooling2D(CUBE_ROOT),
        functools.partial(fractional, ratio=CUBE_ROOT, size=2),
        (2, 9, 11, 2),
    ),
    "fractional of 3": (
        lambda: layers.FractionalMaxPooling2D(1.7, size=3),
        functools.partial(fractional, ratio=1.7, size=3),
        (1, 7, 10, 2),
    ),
}


def slopes(function, x):
    """The gradient of the sum of a function, by central differences."""
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        gradient[place] = (function(x + step) - function(x - step)).sum() / 2e-5
    return gradient


def numbers(shape):
    """Distinct numbers of both signs: maxima have no ties."""
    values = np.random.default_rng(0).permutation(math.prod(shape)) + 0.5
    return (values / values.mean() - 1.02).reshape(shape)


@pytest.mark.parametrize(
    "jit_compile", [False, *[pytest.param(True, marks=pytest.mark.slow)] * TENSORFLOW]
)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_formula(name, jit_compile):
    make, formula, shape = CASES[name]
    layer, x = make(), numbers(shape)
    y, slope = gradient(layer, x.astype("float32"), jit_compile)
    expected = formula(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, slopes(formula, x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name != "highway"])
def test_the_output_shape_is_known_before_and_a_copy_gives_the_same(name, tmp_path):
    make, _, shape = CASES[name]
    layer, x = make(), numbers(shape).astype("float32")
    assert tuple(layer.compute_output_shape(shape)) == tuple(layer(x).shape)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == layer.get_config()
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (model(x), loaded(x))))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", *["float64"] * (not JAX)])
@pytest.mark.parametrize("name", [name for name in CASES if name != "highway"])
def test_the_data_type_passes_through(name, policy):
    make, _, shape = CASES[name]
    keras.config.set_dtype_policy(policy)
    layer = make()
    x = keras.ops.convert_to_tensor(numbers(shape), layer.compute_dtype)
    outputs = (layer(x), layer(keras.Input(shape[1:])))
    found = {keras.backend.standardize_dtype(y.dtype) for y in outputs}
    assert found == {policy.removeprefix("mixed_")}


def test_regions_are_those_of_pytorch():
    import torch

    x = np.random.default_rng(0).normal(size=(1, 25, 17, 4)).astype("float32")
    images = torch.from_numpy(x.transpose(0, 3, 1, 2))
    sides = [round(n / CUBE_ROOT) for n in (25, 17)]
    for u, v in np.random.default_rng(1).uniform(size=(20, 2)):
        # PyTorch's samples are those of columns, then of rows, for each channel.
        samples = torch.tensor([[[v, u]] * 4], dtype=torch.float64)
        expected = torch.nn.functional.fractional_max_pool2d(
            images.double(), 2, output_size=sides, _random_samples=samples
        )
        actual = pooled(x, regions(25, sides[0], 2, u), regions(17, sides[1], 2, v))
        np.testing.assert_array_equal(actual, expected.float().numpy().transpose(0, 2, 3, 1))


def test_training_draws_regions_that_the_seed_repeats():
    x = np.random.default_rng(0).normal(size=(2, 25, 17, 3)).astype("float32")
    sides = [round(n / CUBE_ROOT) for n in (25, 17)]

    def drawn(seed, count=30):
        layer = layers.FractionalMaxPooling2D(CUBE_ROOT, seed=seed)
        return [keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(count)]

    first, again, other = drawn(1), drawn(1), drawn(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({y.tobytes() for y in first}) > 10
    # Each is a result of some pair of numbers, in steps that are fine enough to meet all regions.
    steps = np.linspace(0, 1, 200, endpoint=False)
    possible = [
        {tuple((r.start, r.stop) for r in regions(n, m, 2, u)) for u in steps}
        for n, m in zip((25, 17), sides, strict=True)
    ]
    results = {
        pooled(x, [slice(*r) for r in rows], [slice(*c) for c in columns]).tobytes()
        for rows, columns in itertools.product(*possible)
    }
    assert all(y.tobytes() in results for y in first)


def test_inference_repeats_its_regions_and_draws_nothing():
    x = np.random.default_rng(0).normal(size=(2, 25, 17, 3)).astype("float32")
    layer = layers.FractionalMaxPooling2D(CUBE_ROOT)
    outputs = [keras.ops.convert_to_numpy(layer(x)) for _ in range(3)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_regions_that_leave_no_choice_need_no_random_numbers():
    # Steps of (5 - 2) / (4 - 1) and (3 - 2) / (2 - 1), and of (8 - 2) / (6 - 1).
    for side, seeds in ((5, 0), (3, 0), (8, 1)):
        layer = layers.FractionalMaxPooling2D(CUBE_ROOT)
        layer.build((None, side, 3, 1))
        assert len(layer.non_trainable_variables) == seeds


def test_maxout_takes_shapes_that_are_unknown_and_whole_numbers():
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layers.Maxout(2)(inputs))
    assert model.output.shape == (None, None, None, 2)
    assert model(np.zeros((2, 3, 5, 4))).shape == (2, 3, 5, 2)
    y = layers.Maxout(2)(np.array([[1, 5]]))
    assert keras.ops.convert_to_numpy(y).tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Maxout(1), "pieces=1"),
        (lambda: layers.Maxout(2.0), "pieces=2.0"),
        (lambda: layers.Maxout(2)(np.zeros((2, 3))), "3 features"),
        (lambda: layers.HighwayGate()([np.zeros((2, 3))] * 2), "three tensors of one shape"),
        (
            lambda: layers.HighwayGate()([np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 4))]),
            "three tensors of one shape",
        ),
        (lambda: layers.ResponseNormalization2D(2), "size=2"),
        (lambda: layers.ResponseNormalization2D(-1), "size=-1"),
        (lambda: layers.ResponseNormalization2D(alpha=0), "alpha=0"),
        (lambda: layers.ResponseNormalization2D(beta=float("inf")), "beta=inf"),
        (lambda: layers.CeilMaxPooling2D(2, 3), "strides=3"),
        (lambda: layers.CeilMaxPooling2D(0, 0), "size=0"),
        (lambda: layers.CeilMaxPooling2D(3, 2)(keras.Input((None, 4, 1))), "known height"),
        (lambda: layers.FractionalMaxPooling2D(0.5), "ratio=0.5"),
        (lambda: layers.FractionalMaxPooling2D(2), "ratio=2"),
        (lambda: layers.FractionalMaxPooling2D(1.5, size=1), "size=1"),
        (lambda: layers.FractionalMaxPooling2D(1.5)(keras.Input((4, None, 1))), "known height"),
        (lambda: layers.FractionalMaxPooling2D(1.5)(np.zeros((1, 4, 1, 1))), "cannot cover 1"),
        (lambda: layers.FractionalMaxPooling2D(2.9, 3)(np.zeros((1, 4, 4, 1))), "cannot cover 4"),
    ],
)
def test_a_bad_argument_gets_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
