"""Runs that were stopped against runs that were not, equal in every bit."""

import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import training
from keras_elu.monitoring.history import History
from keras_elu.training import Checkpoints, NonFiniteLoss, Stopped
from keras_elu.training.checkpoints import interval
from keras_elu.training.store import Store

ROOT = pathlib.Path(__file__).parents[2]
STEPS, EPOCHS, BATCH = 5, 3, 8
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(STEPS * EPOCHS * BATCH, 6)).astype("float32")
Y = RANDOM.integers(0, 3, len(X))


def make(strategy="default", optimizer=None, **compiling):
    """A network with all that has a state: momentum, averages, statistics and seeds."""
    keras.utils.set_random_seed(2)
    with training.strategy(strategy).scope():
        inputs = keras.Input((6,))
        x = keras.layers.Dense(8)(inputs)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Dropout(0.5)(x)
        model = training.DistributedModel(inputs, keras.layers.Dense(3)(x))
        model.compile(
            optimizer or keras.optimizers.AdamW(0.01, use_ema=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            **{"jit_compile": False, **compiling},
        )
    return model


def batches(start=0, x=X):
    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(BATCH).repeat().skip(start)


class After:
    """Wishes to stop when it has been asked so often."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        return self.left < 0


def attempt(folder, stop=lambda: False, others=(), strategy="default", every="1", **making):
    """One process of a run; returns its model and the rows of its history."""
    history = History(folder / "history.csv")
    named = {"history": history} | {type(other).__name__: other for other in others}
    checkpoints = Checkpoints(folder / "checkpoints", every=every, callbacks=named, stop=stop)
    model = make(strategy, **making)
    checkpoints.check(model)
    try:
        model.fit(
            batches(checkpoints.start),
            steps_per_epoch=STEPS,
            epochs=EPOCHS,
            initial_epoch=checkpoints.epoch,
            initial_step=checkpoints.step,
            validation_data=batches().take(2),
            callbacks=[*others, history, checkpoints],
            shuffle=False,
            verbose=0,
        )
    finally:
        checkpoints.close()
    return model, history.rows


class Written(keras.callbacks.Callback):
    """Before them in the list: waits for one being written, which would put off the next."""

    def __init__(self, checkpoints):
        super().__init__()
        self.checkpoints = checkpoints

    def on_train_batch_end(self, batch, logs=None):
        self.checkpoints.close()


def values(model):
    return [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]


def assert_equal(one, other):
    for a, b in zip(values(one[0]), values(other[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1] == other[1]


@functools.cache
def undisturbed(strategy, steps_per_execution=1):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        return attempt(folder, strategy=strategy, steps_per_execution=steps_per_execution)


# A stop is asked for after each execution, each batch of validation and each epoch.
ASKED_IN_AN_EPOCH = STEPS + 2 + 1


@pytest.mark.parametrize(
    ("strategy", "steps_per_execution", "stops"),
    [
        pytest.param("default", 1, [1, 3, 2, 4, 0, 2], marks=pytest.mark.slow),
        pytest.param("default", 3, [0, 2, 3], marks=pytest.mark.slow),
        ("mirrored", 3, [0, 3]),
    ],
)
def test_a_run_stopped_often_goes_on_equal_in_every_bit(
    strategy, steps_per_execution, stops, tmp_path
):
    making = {"strategy": strategy, "steps_per_execution": steps_per_execution}
    for times in stops:
        with pytest.raises(Stopped):
            attempt(tmp_path, After(times), **making)
    assert_equal(attempt(tmp_path, **making), undisturbed(strategy, steps_per_execution))


@pytest.mark.parametrize(
    "times", [2, 8, *(pytest.param(times, marks=pytest.mark.slow) for times in (5, 7, 14))]
)
def test_a_run_stopped_once_goes_on_from_there(times, tmp_path):
    with pytest.raises(Stopped):
        attempt(tmp_path, After(times))
    assert_equal(attempt(tmp_path), undisturbed("default"))


@pytest.mark.parametrize(
    ("first", "then"),
    [pytest.param("default", "mirrored", marks=pytest.mark.slow), ("mirrored", "default")],
)
def test_a_run_goes_on_with_another_number_of_replicas(first, then, tmp_path):
    """Dropout draws by replica, so that only what is done already can be compared."""
    with pytest.raises(Stopped):
        attempt(tmp_path, After(3), strategy=first)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert (checkpoints.step, checkpoints.replicas) == (4, 1 if first == "default" else 2)
    _, rows = attempt(tmp_path, strategy=then)
    oracle = undisturbed(first)[1]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    # Of the 5 batches of the first epoch, 4 were seen with the same masks.
    assert rows[0]["accuracy"] == pytest.approx(oracle[0]["accuracy"], abs=1 / STEPS)
    assert rows[0]["loss"] == pytest.approx(oracle[0]["loss"], rel=0.2)


def test_the_memories_of_callbacks_go_on(tmp_path):
    def others():
        return [
            keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
            keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=10.0, cooldown=1),
        ]

    memories = []
    for folder, stops in (("one", []), ("other", [STEPS + 3, ASKED_IN_AN_EPOCH + 1])):
        for times in stops:
            with pytest.raises(Stopped):
                attempt(tmp_path / folder, After(times), others())
        last = others()
        model, _ = attempt(tmp_path / folder, others=last)
        stopping, saving, plateau = last
        memories.append(
            [
                *(stopping.wait, stopping.best, stopping.best_epoch, saving.best),
                *(plateau.wait, plateau.cooldown_counter, plateau.best),
                float(model.optimizer.learning_rate.numpy()),
            ]
        )
        memories[-1] += [weight.tobytes() for weight in stopping.best_weights]
    assert memories[0] == memories[1]
    assert memories[0][7] < 0.01  # the plateau has lowered it


def test_a_callback_without_a_memory_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Callback must have get_state"):
        attempt(tmp_path, others=[keras.callbacks.Callback()])


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    with pytest.raises(Stopped):
        attempt(tmp_path, After(1))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    inputs = keras.Input((6,))
    for layer in (keras.layers.Dense(9, name="dense"), keras.layers.Dense(9, name="other")):
        with pytest.raises(
            ValueError, match=r"^The checkpoint belongs to another .* name a new folder\.$"
        ):
            checkpoints.check(keras.Model(inputs, layer(inputs)))


def fit_past(bad, model, checkpoints):
    """Trains two epochs, without the bad batches, and yields each error after going back."""
    x = X.copy()
    x[np.multiply(bad, BATCH)] = np.nan
    while True:
        try:
            model.fit(
                batches(checkpoints.start, x),
                steps_per_epoch=STEPS,
                epochs=2,
                initial_epoch=checkpoints.epoch,
                initial_step=checkpoints.step,
                callbacks=[Written(checkpoints), checkpoints],
                shuffle=False,
                verbose=0,
            )
        except NonFiniteLoss as error:
            checkpoints.go_back(error)
            yield error
        else:
            checkpoints.close()
            return


def test_after_a_loss_that_is_not_finite_a_run_goes_back_and_leaves_its_batches_out(tmp_path):
    checkpoints, model = Checkpoints(tmp_path, every="3"), make()
    errors = fit_past([7], model, checkpoints)  # in the second epoch
    assert next(errors).step == 8
    assert (checkpoints.epoch, checkpoints.step, checkpoints.start) == (1, 1, 8)
    assert list(errors) == []
    assert int(model.optimizer.iterations.numpy()) == 2 * STEPS
    assert all(np.isfinite(value).all() for value in values(model))
    assert Checkpoints(tmp_path).start == 2 * STEPS + 2


@pytest.mark.parametrize(
    ("steps_per_execution", "steps", "left_out"),
    [(1, [8, 8], 4), (3, [8, 5], 7)],  # from the checkpoints after steps 6 and 3
)
def test_a_second_failure_before_the_next_checkpoint_leaves_the_batches_of_both_out(
    steps_per_execution, steps, left_out, tmp_path
):
    checkpoints = Checkpoints(tmp_path, every="3")
    model = make(steps_per_execution=steps_per_execution)
    errors = fit_past([7, 9], model, checkpoints)
    assert [error.step for error in itertools.islice(errors, 3)] == steps
    assert Checkpoints(tmp_path).start == 2 * STEPS + left_out


def test_the_steps_that_a_loss_scale_skipped_count_as_batches(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2**22)
    checkpoints, model = Checkpoints(tmp_path, every="3"), make(optimizer=optimizer)
    errors = fit_past([7], model, checkpoints)
    assert next(errors).step < 8, "the test needs steps that the loss scale skips"
    assert checkpoints.start == 8
    assert list(errors) == []
    assert Checkpoints(tmp_path).start == 2 * STEPS + 2


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = make()
    checkpoints = Checkpoints(tmp_path, every="1")

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.layers[1].kernel.assign(np.full((6, 8), np.nan))

    with pytest.raises(NonFiniteLoss):
        model.fit(batches(), steps_per_epoch=STEPS, callbacks=[Spoil(), checkpoints], verbose=0)
    checkpoints.close()
    found = Checkpoints(tmp_path)
    assert found.step in (1, 2)  # the second may have come while the first was written
    fresh = make()
    fresh.fit(batches(), steps_per_epoch=STEPS, initial_step=found.step, callbacks=[found])
    assert all(np.isfinite(value).all() for value in values(fresh))


@pytest.mark.parametrize(
    "fitting",
    [{"x": batches()}, {"x": batches().take(4), "steps_per_epoch": 5}, {"x": X, "y": Y}],
    ids=["no length", "an end", "arrays"],
)
def test_to_begin_amid_an_epoch_needs_endless_data_and_a_length(fitting):
    with pytest.raises(ValueError, match="initial_step needs steps_per_epoch and an endless"):
        make().fit(**fitting, initial_step=2, verbose=0)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "0s", "s", "1m", "1e3", "60 s", "\u0661"])
def test_an_interval_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"^every must be steps, .*\.$"):
        interval(text)


def test_seconds_are_counted_from_one_checkpoint_to_the_next(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            nonlocal now
            now += 4

    model = make()
    checkpoints = Checkpoints(tmp_path, every="10s", keep=99)
    model.fit(
        batches(),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        callbacks=[Clock(), Written(checkpoints), checkpoints],
        verbose=0,
    )
    checkpoints.close()
    steps = [int(path.name.split("-")[1]) for path in sorted(tmp_path.iterdir())]
    assert steps == [3, 6, 9, 12, 15]


def finite(folder, epochs, *, skipped=False, counted=True):
    """A run on a finite data set of three batches; returns the steps of its optimizer."""
    model = make()
    checkpoints = Checkpoints(folder, every=1)
    data = tf.data.Dataset.from_tensor_slices((X[:24], Y[:24])).batch(BATCH)
    if not counted:
        data = data.filter(lambda x, y: True)
    model.fit(
        data.skip(checkpoints.start if skipped else 0),
        epochs=epochs,
        initial_epoch=checkpoints.epoch,
        initial_step=checkpoints.step,
        callbacks=[checkpoints],
        shuffle=False,
        verbose=0,
    )
    checkpoints.close()
    return int(model.optimizer.iterations)


@pytest.mark.parametrize(
    ("counted", "message"), [(True, "had 3 when the checkpoint was saved"), (False, "no batches")]
)
def test_a_finite_data_set_is_resumed_whole_between_epochs_or_refused(tmp_path, counted, message):
    assert finite(tmp_path, 2, counted=counted) == 6
    with pytest.raises(ValueError, match=rf"{message}.*: give fit [^.]*\.repeat[^.]*\.$"):
        finite(tmp_path, 4, skipped=True, counted=counted)
    assert finite(tmp_path, 4, counted=counted) == 12


def test_a_plain_model_is_told_what_it_needs(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a keras_elu"):
        model.fit(X, np.ones((len(X), 3)), callbacks=[Checkpoints(tmp_path)], verbose=0)


@pytest.mark.parametrize("every", [100, "100"])
def test_an_interval_is_a_number_or_a_text(every):
    assert interval(every) == (100, None)


@pytest.mark.parametrize("every", [0, -1, True, 1.5, None])
def test_what_is_no_interval_is_refused(every):
    with pytest.raises(ValueError, match="must be steps, such as 100"):
        interval(every)


def test_workers_look_for_the_checkpoint_only_when_the_chief_has_written_it(tmp_path, monkeypatch):
    calls = []
    checkpoints = Checkpoints(tmp_path)
    checkpoints._agreement = types.SimpleNamespace(any=lambda wish: calls.append("agree"))
    for name in ("wait", "newest"):
        monkeypatch.setattr(Store, name, lambda self, name=name: calls.append(name))
    checkpoints.go_back(NonFiniteLoss(1, offset=1))
    assert calls == ["wait", "agree", "newest"]


WORKER = """
import pathlib, sys
import keras, numpy as np, tensorflow as tf
from keras_elu import training
from keras_elu.distributed import cluster

index = cluster.read().index
strategy = training.strategy("multiworker")
with strategy.scope():
    inputs = keras.Input((2,))
    model = training.DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
data = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1)))).repeat()

def fit(checkpoints, epochs):
    model.fit(
        data.skip(checkpoints.start),
        steps_per_epoch=2,
        epochs=epochs,
        initial_epoch=checkpoints.epoch,
        callbacks=[checkpoints],
        verbose=0,
    )
    checkpoints.close()

own = pathlib.Path(f"of-{index}")
fit(training.Checkpoints(own), 1)
try:
    fit(training.Checkpoints(own), 2)
except OSError as error:
    print(error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.multiworker
def test_workers_that_find_different_checkpoints_all_say_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, "-m", "keras_elu.launch", "--workers", "2", "--restarts", "0", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    said = re.findall(r"\[(\d)\] The workers have found different checkpoints: ", done.stdout)
    assert sorted(said) == ["0", "1"], done.stderr
