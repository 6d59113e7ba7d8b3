import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import schedules

LAST = 2**31 - 1
CASES = {
    "piecewise": schedules.PiecewiseConstant([3, 3, 2**24 + 1, LAST], [0.1, 9, 0.2, 0.3, 0.4]),
    "piecewise with warm-up": schedules.PiecewiseConstant([9, 20], [0.4, 0.2, 0.1], 7),
    "knots": schedules.Knots([2, 5, 2**30 + 1, LAST], [0.3, 0.0, 1.1, 0.7]),
    "constant knots": schedules.Knots([0, 7, 9], [0.1, 0.1, 0.3]),
    "linear up": schedules.Linear(0.1, 0.7, 1000),
    "linear down": schedules.Linear(0.7, 0.1, LAST),
    "cosine": schedules.Cosine(0.3, 1000),
    "cosine with warm-up": schedules.Cosine(0.3, LAST, 2**24 + 1, end=0.1, start=0.2),
    "one cycle": schedules.OneCycle(0.3, 1000),
    "one cycle, only down": schedules.OneCycle(0.3, 7, warmup_fraction=0.0),
    "one cycle, only up": schedules.OneCycle(0.3, 7, warmup_fraction=1.0),
}
STEPS = np.unique(
    [s + d for s in (0, 3, 7, 300, 1000, 2**24, 2**30, LAST) for d in range(-3, 4)]
    + np.geomspace(1, LAST, 500).astype("int64").tolist()
)
STEPS = STEPS[(STEPS >= 0) & (STEPS <= LAST)]


def _cosine(a, b, t):
    return a + (b - a) * (1 - np.cos(np.pi * t)) / 2


def _between(knots, values, step, path=None):
    """The value in float64, by a search instead of a chain of conditions."""
    step = np.clip(step, knots[0], knots[-1])
    if path is None:
        return np.interp(step, knots, values)
    i = np.clip(np.searchsorted(knots, step, side="right") - 1, 0, len(knots) - 2)
    knots, values = np.array(knots, "float64"), np.array(values)
    return path(values[i], values[i + 1], (step - knots[i]) / (knots[i + 1] - knots[i]))


ORACLES = {
    "piecewise": lambda s: np.array([0.1, 9, 0.2, 0.3, 0.4])[
        np.searchsorted([3, 3, 2**24 + 1, LAST], s, side="right")
    ],
    "piecewise with warm-up": lambda s: np.where(
        s < 7, 0.4 * s / 7, np.array([0.4, 0.2, 0.1])[np.searchsorted([9, 20], s, side="right")]
    ),
    "knots": lambda s: _between([2, 5, 2**30 + 1, LAST], [0.3, 0.0, 1.1, 0.7], s),
    "constant knots": lambda s: _between([0, 7, 9], [0.1, 0.1, 0.3], s),
    "linear up": lambda s: _between([0, 1000], [0.1, 0.7], s),
    "linear down": lambda s: _between([0, LAST], [0.7, 0.1], s),
    "cosine": lambda s: _between([0, 1000], [0.3, 0.0], s, _cosine),
    "cosine with warm-up": lambda s: np.where(
        s <= 2**24 + 1,
        _between([0, 2**24 + 1], [0.2, 0.3], s),
        _between([2**24 + 1, LAST], [0.3, 0.1], s, _cosine),
    ),
    "one cycle": lambda s: _between([0, 300, 1000], [0.3 / 25, 0.3, 0.3 * 4e-6], s, _cosine),
    "one cycle, only down": lambda s: _between([0, 7], [0.3, 0.3 * 4e-6], s, _cosine),
    "one cycle, only up": lambda s: _between([0, 7], [0.3 / 25, 0.3], s, _cosine),
}


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_agrees_with_float64_to_two_units_in_the_last_place(name):
    actual = CASES[name](STEPS)
    assert keras.backend.standardize_dtype(actual.dtype) == "float32"
    expected = ORACLES[name](STEPS)
    # NumPy's 1 - cos is itself off by 1e-16 of the peak near a zero.
    np.testing.assert_allclose(actual, expected, rtol=4e-7, atol=1e-16)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_schedule_agrees_with_the_eager_one(name, dtype, jit_compile):
    compiled = tf.function(CASES[name].__call__, jit_compile=jit_compile)
    actual = compiled(tf.constant(STEPS, dtype))
    np.testing.assert_allclose(actual, CASES[name](STEPS), rtol=4e-7)
    assert compiled(tf.constant(5, dtype)).shape == ()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_knots_are_exact_and_steps_beside_them_are_told_apart(jit_compile):
    values = [0.3, 0.1, 0.7, 0.2]
    for offset in (3, 2**24 + 1, 2**31 - 201):
        knots = [offset, offset + 100, offset + 150, offset + 200]
        call = tf.function(schedules.Knots(knots, values).__call__, jit_compile=jit_compile)
        assert call(tf.constant(knots)).numpy().tolist() == np.float32(values).tolist()
        for left, right in itertools.pairwise(knots):
            ramp = call(tf.range(left, right)).numpy()
            assert len(set(ramp.tolist())) == right - left
        call = tf.function(
            schedules.PiecewiseConstant(knots[1:], values).__call__, jit_compile=jit_compile
        )
        steps = tf.constant([knots[1] - 1, knots[1], knots[3] - 1, knots[3]])
        assert call(steps).numpy().tolist() == np.float32([0.3, 0.1, 0.7, 0.2]).tolist()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.PiecewiseConstant([2], [1, 0.5]), {0: 1, 1: 1, 2: 0.5, 9: 0.5}),
        (schedules.Knots([4, 8], [1, 0]), {0: 1, 4: 1, 5: 0.75, 8: 0, 9: 0}),
        (schedules.Linear(0, 1, 4), {0: 0, 1: 0.25, 4: 1, 5: 1}),
        (schedules.Cosine(2, 14, warmup_steps=2), {0: 0, 1: 1, 2: 2, 6: 1.5, 8: 1, 10: 0.5, 14: 0}),
        (schedules.OneCycle(1, 10, 0.4, 0, 0), {0: 0, 2: 0.5, 4: 1, 6: 0.75, 7: 0.5, 10: 0}),
    ],
)
def test_values_worked_out_by_hand(schedule, expected):
    for step, value in expected.items():
        assert float(schedule(step)) == pytest.approx(value, rel=2e-7, abs=1e-7)


@pytest.mark.parametrize(
    "step",
    [5, np.int32(5), np.int64(5), np.array(5), tf.constant(5), tf.constant(5, "int64")],
    ids=lambda step: f"{type(step).__name__} {getattr(step, 'dtype', '')}",
)
def test_any_kind_of_step_is_taken(step):
    assert float(schedules.Linear(0, 1, 10)(step)) == 0.5


def test_a_step_beyond_any_tensor_has_the_last_value():
    assert float(schedules.Linear(0, 1, 10)(2**31)) == 1
    assert float(schedules.Linear(0, 1, 10)(2**70)) == 1


def test_the_papers_learning_rates_change_at_the_papers_iterations():
    schedule = schedules.elu_cifar_11(165_000)
    steps = [0, 34_999, 35_000, 84_999, 85_000, 134_999, 135_000, 164_999]
    expected = np.float32([0.01, 0.01, 0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005])
    assert schedule(np.array(steps)).numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 33, LAST])
def test_the_papers_learning_rates_scale_to_any_length(steps):
    schedule = schedules.elu_cifar_11(steps)
    assert float(schedule(0)) == np.float32(0.01)
    np.testing.assert_allclose(
        np.array(schedule.boundaries) / steps, [35 / 165, 85 / 165, 135 / 165], atol=1 / steps
    )


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_survives_its_config(name):
    schedule = CASES[name]
    config = keras.optimizers.schedules.serialize(schedule)
    assert config["registered_name"].startswith("keras_elu>")
    assert keras.optimizers.schedules.deserialize(config) == schedule


def test_numpy_numbers_survive_the_config():
    schedule = schedules.Knots(np.array([0, 10]), np.array([0.5, 1.0], "float32"))
    assert schedule.get_config() == {"knots": [0, 10], "values": [0.5, 1.0]}
    assert type(schedules.Linear(np.float32(0.5), 1, np.int64(9)).get_config()["start"]) is float


def test_a_saved_optimizer_keeps_its_schedule(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    schedule = schedules.Cosine(0.1, 8, warmup_steps=3)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    x = np.ones((8, 1), "float32")
    model.fit(x, x, batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 4
    assert float(loaded.optimizer.learning_rate) == float(schedule(4)) > 0
    assert loaded.optimizer.get_config()["learning_rate"]["config"] == schedule.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Linear(1, 0, 0), "steps=0"),
        (lambda: schedules.Linear(1, 0, 2**31), "steps=2147483648"),
        (lambda: schedules.Linear(1, 0, 10.5), "steps=10.5"),
        (lambda: schedules.Linear(1, 0, True), "steps=True"),
        (lambda: schedules.Linear(float("nan"), 0, 10), "start=nan"),
        (lambda: schedules.Linear("1", 0, 10), "start='1'"),
        (lambda: schedules.Linear(1, -0.1, 10), "end=-0.1"),
        (lambda: schedules.Cosine(float("inf"), 10), "peak=inf"),
        (lambda: schedules.Cosine(1, 10, 10), "warmup_steps=10 of 10 steps"),
        (lambda: schedules.Cosine(1, 10, -1), "warmup_steps=-1"),
        (lambda: schedules.PiecewiseConstant([5], [1, 2], 6), "at most the first boundary, 5"),
        (lambda: schedules.OneCycle(1, 10, warmup_fraction=1.5), "warmup_fraction=1.5"),
        (lambda: schedules.PiecewiseConstant([3, 2], [1, 2, 3]), r"boundaries=\[3, 2\]"),
        (lambda: schedules.PiecewiseConstant([0], [1, 2]), "boundaries=0"),
        (lambda: schedules.PiecewiseConstant([1], [1]), "1 values for 1 boundaries"),
        (lambda: schedules.PiecewiseConstant(3, [1, 2]), "boundaries=3"),
        (lambda: schedules.Knots([0], [1]), r"knots=\[0\]"),
        (lambda: schedules.Knots([0, 0], [1, 2]), r"knots=\[0, 0\]"),
        (lambda: schedules.Knots([0, 1], [1]), "1 values for 2 knots"),
        (lambda: schedules.Knots([0, 1], [1, None]), "values=None"),
        (lambda: schedules.elu_cifar_11(0), "steps=0"),
    ],
)
def test_a_bad_argument_gets_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert str(error.value).count(". ") == 0
    assert "\n" not in str(error.value)
