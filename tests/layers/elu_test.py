"""ELU as a Keras layer: in models, in files, and under strategies."""

import keras
import numpy as np
import pytest

from keras_elu import layers, schedules

BACKEND = keras.backend.backend()


def network(activation, jit_compile="auto", outputs=1):
    """Two hidden layers, each followed by `activation()`."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,))
    for _ in range(2):
        x = activation()(keras.layers.Dense(6)(x))
    model = keras.Model(inputs, keras.layers.Dense(outputs)(x))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    return model


def examples(count=16):
    x = np.random.default_rng(0).normal(size=(count, 8)).astype("float32")
    return x, x[:, :1]


@pytest.mark.parametrize(
    "alpha",
    [0, -1, float("nan"), float("inf"), None, "1", True, [1.0], 1j, np.zeros(2), np.float32(0)],
    ids=repr,
)
def test_a_wrong_alpha_is_named_in_one_sentence(alpha):
    with pytest.raises(ValueError, match=r"^alpha must be a positive finite number") as error:
        layers.ELU(alpha)
    assert repr(alpha) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("alpha", [2, np.float32(0.7), np.array(0.7), np.int64(3)], ids=repr)
def test_any_real_number_is_an_alpha_and_survives_its_config(alpha):
    config = layers.ELU(alpha).get_config()
    assert type(config["alpha"]) is float
    assert layers.ELU.from_config(config).alpha == pytest.approx(float(alpha))


def test_alpha_cannot_be_changed_behind_a_compiled_steps_back():
    with pytest.raises(AttributeError, match="give it a schedule"):
        layers.ELU(0.5).alpha = 1.0


def test_alpha_as_a_number_adds_no_weights_so_keras_weights_fit():
    ours, theirs = network(layers.ELU), network(keras.layers.ELU)
    ours.set_weights(theirs.get_weights())
    x, _ = examples()
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(None,), (None, None), (None, 4, None), (2, 3, 4, 5)])
def test_symbolic_calls_keep_shape_and_dtype(shape):
    y = layers.ELU()(keras.KerasTensor(shape, dtype="float32"))
    assert y.shape == shape
    assert y.dtype == "float32"


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("float32", "float32"),
        ("mixed_float16", "float16"),
        ("mixed_bfloat16", "bfloat16"),
    ],
)
def test_the_dtype_policy_decides_the_output(policy, dtype):
    y = layers.ELU(dtype=policy)(np.array([-1.0, 2.0], "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == dtype


def test_masks_pass_through():
    x = keras.layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    y = layers.ELU()(x)
    assert keras.ops.convert_to_numpy(keras.src.backend.get_keras_mask(y)).tolist() == [
        [True, False]
    ]


def test_values_below_zero():
    # exp(-1) - 1 = -0.632..., by hand
    y = layers.ELU(2.0)(np.array([-1.0, -0.0, 3.0], "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(y), [-1.2642411, 0.0, 3.0], rtol=1e-6)


@pytest.mark.parametrize(
    "alpha", [0.5, schedules.Linear(1.0, 2.0, steps=10)], ids=["0.5", "linear"]
)
def test_a_model_saved_and_loaded_predicts_the_same(alpha, tmp_path):
    model = network(lambda: layers.ELU(alpha))
    x, y = examples()
    model.fit(x, y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = network(lambda: layers.ELU(alpha))
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), fresh.predict(x, verbose=0))


def count_traces(model):
    """Returns a list that grows by one at every trace of the model's forward pass."""
    traces = []
    call = model.layers[1].call
    model.layers[1].call = lambda *args, **kwargs: (traces.append(1), call(*args, **kwargs))[1]
    return traces


@pytest.mark.parametrize("jit_compile", [False] if BACKEND == "torch" else [False, True])
def test_a_schedule_advances_once_a_training_step_without_retracing(jit_compile):
    seen = []

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(keras.ops.convert_to_numpy(elu.alpha.value)))

    model = network(lambda: layers.ELU(schedules.Linear(1.0, 2.0, steps=4)), jit_compile)
    elu = model.layers[2]
    assert isinstance(elu, layers.ELU)
    x, y = examples(24)
    traces = count_traces(model)
    callbacks = [Recorder()] if BACKEND == "tensorflow" else []  # JAX updates variables at the end
    model.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=callbacks)
    after_one_epoch = len(traces)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)
    if BACKEND == "tensorflow":
        assert seen == [1.0, 1.25, 1.5, 1.75, 2.0, 2.0]
        assert len(traces) == after_one_epoch
    assert int(keras.ops.convert_to_numpy(elu.step.value)) == 12
    assert float(keras.ops.convert_to_numpy(elu.alpha.value)) == 2.0
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert int(keras.ops.convert_to_numpy(elu.step.value)) == 12


def test_a_scheduled_alpha_is_the_alpha_that_is_used():
    elu = layers.ELU(schedules.Linear(1.0, 3.0, steps=2))
    x = np.array([-100.0], "float32")
    values = [float(elu(x, training=training)[0]) for training in (True, True, True, False, None)]
    assert values == [-1.0, -2.0, -3.0, -3.0, -3.0]


def test_a_schedule_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="alpha at step 0 must be a positive finite number"):
        layers.ELU(schedules.Linear(0.0, 1.0, steps=2))


@pytest.mark.tensorflow
def test_replicas_keep_one_schedule_and_match_a_single_device():
    from keras_elu import training

    def train():
        model = network(lambda: layers.ELU(schedules.Linear(1.0, 2.0, steps=8)), jit_compile=False)
        x, y = examples()
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        elu = model.layers[2]
        return [*model.get_weights(), elu.alpha.numpy(), elu.step.numpy()]

    single = train()
    with training.strategy("mirrored").scope():
        mirrored = train()
    assert single[-1] == mirrored[-1] == 8
    assert single[-2] == mirrored[-2] == 1.875
    for one, two in zip(single, mirrored, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.tensorflow
def test_one_compiled_function_serves_many_shapes():
    for shape in [(2, 3), (5, 3), (7, 1), (2, 2, 2), (0, 3)]:
        y = layers.ELU()(np.full(shape, -1.0, "float32"))
        assert y.shape == shape
        np.testing.assert_allclose(y, np.full(shape, np.expm1(-1.0)), rtol=1e-6)
