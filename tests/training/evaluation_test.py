import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import training
from keras_elu.training import evaluation, store

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
Y = X @ np.arange(5.0)[:, None]
BATCHES = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat()
MOMENTUM = 0.7


def made(units=1, **kwargs):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    model = training.DistributedModel(inputs, keras.layers.Dense(units)(inputs))
    kwargs = {"use_ema": True, "ema_momentum": MOMENTUM} | kwargs
    model.compile(keras.optimizers.SGD(0.05, **kwargs), "mse")
    return model


class Weights(keras.callbacks.Callback):
    """The weights after each step, and before and after each validation."""

    def __init__(self):
        super().__init__()
        self.steps, self.around = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([w.copy() for w in self.model.get_weights()])

    def on_epoch_end(self, epoch, logs=None):
        self.around.append([w.copy() for w in self.model.get_weights()])


def averaged(steps):
    """The averages as Keras documents them: they begin as the weights after the first step."""
    averages = [w.astype("float64") for w in steps[0]]
    for weights in steps[1:]:
        averages = [
            MOMENTUM * average + (1 - MOMENTUM) * w
            for average, w in zip(averages, weights, strict=True)
        ]
    return averages


def error(weights):
    return float(np.square(X @ weights[0] + weights[1] - Y).mean())


def test_validation_uses_the_averages_and_leaves_the_weights_as_they_were(tmp_path):
    model, weights = made(), Weights()
    checkpoints = training.Checkpoints(tmp_path, every="7")
    history = model.fit(
        BATCHES,
        steps_per_epoch=5,
        epochs=2,
        validation_data=(X, Y),
        callbacks=[weights, evaluation.Averages(), checkpoints],
        verbose=0,
    ).history
    checkpoints.close()
    for epoch, after in enumerate(weights.around):
        last = 5 * (epoch + 1)
        averages = averaged(weights.steps[:last])
        np.testing.assert_allclose(history["val_loss"][epoch], error(averages), rtol=1e-5)
        assert history["val_loss"][epoch] != pytest.approx(error(after), rel=1e-3)
        for now, before in zip(after, weights.steps[last - 1], strict=True):
            np.testing.assert_array_equal(now, before)
    for found, average in zip(model.get_weights(), averages, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-5)


def test_the_weights_of_a_run_are_found_before_and_after_its_end(tmp_path):
    run = tmp_path / "run"
    checkpoints = training.Checkpoints(run / "checkpoints", every="5")
    model = made()
    with pytest.raises(ValueError, match=r"neither a model\.keras nor a checkpoint"):
        evaluation.restore(model, tmp_path)
    model.fit(BATCHES, steps_per_epoch=5, callbacks=[checkpoints], verbose=0)
    checkpoints.close()
    (file,) = (run / "checkpoints").iterdir()

    def restored(path):
        new = made()
        new.build_for(BATCHES.element_spec)
        new.set_weights([w + 1 for w in new.get_weights()])
        return evaluation.restore(new, path), new.get_weights()

    assert restored(run)[0] == f"{run}, after step 5"
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    for path in (run, file, tmp_path / "model.keras", tmp_path / "model.weights.h5", tmp_path):
        for found, own in zip(restored(path)[1], model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, own)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    checkpoints = training.Checkpoints(tmp_path / "checkpoints", every="5")
    model = made(units=2)
    model.fit(BATCHES, steps_per_epoch=5, callbacks=[checkpoints], verbose=0)
    checkpoints.close()
    other = made()
    other.build_for(BATCHES.element_spec)
    with pytest.raises(ValueError, match="of another network"):
        evaluation.restore(other, tmp_path)
    model.save(tmp_path / "model.keras")
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes((tmp_path / "model.keras").read_bytes()[:1000])
    (tmp_path / "step-00000005-0123456789abcdef.npz").write_bytes(b"something")
    for name in ("absent.keras", "checkpoints", "notes.txt"):
        with pytest.raises(ValueError, match=f"{name} (is not the folder|holds neither)"):
            evaluation.restore(other, tmp_path / name)
    for name in ("model.keras", "damaged.keras"):
        with pytest.raises(ValueError, match=f"The weights in .*{name} cannot be loaded"):
            evaluation.restore(other, tmp_path / name)
    with pytest.raises(ValueError, match="is damaged, or not a checkpoint"):
        evaluation.restore(other, tmp_path / "step-00000005-0123456789abcdef.npz")
    assert store.read(tmp_path / "model.keras") is None
