import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import data, training
from keras_elu.recipes import cifar, mnist
from keras_elu.training import evaluation, fitting, store
from keras_elu.training.config import resolve

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
    model.save_weights(tmp_path / "model.weights.h5")
    for path in (run, file, tmp_path / "model.weights.h5"):
        for found, own in zip(restored(path)[1], model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, own)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    checkpoints = training.Checkpoints(tmp_path / "checkpoints", every="5")
    model = made(units=2)
    model.fit(BATCHES, steps_per_epoch=5, callbacks=[checkpoints], verbose=0)
    checkpoints.close()
    other = made()
    other.build_for(BATCHES.element_spec)
    with pytest.raises(ValueError, match="belongs to another network"):
        evaluation.restore(other, tmp_path)
    model.save_weights(tmp_path / "model.weights.h5")
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes((tmp_path / "model.weights.h5").read_bytes()[:1000])
    (tmp_path / "step-00000005-0123456789abcdef.npz").write_bytes(b"something")
    for name in ("absent.keras", "checkpoints", "notes.txt"):
        with pytest.raises(ValueError, match=f"{name} (is not the folder|holds neither)"):
            evaluation.restore(other, tmp_path / name)
    for name in ("model.weights.h5", "damaged.weights.h5"):
        with pytest.raises(ValueError, match=f"The weights in .*{name} cannot be loaded"):
            evaluation.restore(other, tmp_path / name)
    with pytest.raises(ValueError, match="is damaged, or not a checkpoint"):
        evaluation.restore(other, tmp_path / "step-00000005-0123456789abcdef.npz")
    assert store.read(tmp_path / "model.weights.h5") is None


@pytest.fixture
def pets(monkeypatch):
    """Replaces the data set that `--dataset` names by one with the given classes."""

    def load(*class_names, size=8):
        made = data.synthetic((size, size, 1), len(class_names), examples=64, seed=len(class_names))
        made.class_names = class_names
        monkeypatch.setattr(data, "load", lambda name, **kwargs: made)
        return made

    return load


def saved(path, dataset, recipe=mnist, **changes):
    """Saves an untrained model, and returns it."""
    keras.utils.set_random_seed(1)
    config = resolve(recipe, recipe.Config(dataset="synthetic", **changes))
    network, _ = recipe.build(config, dataset, 10)
    path.parent.mkdir(exist_ok=True)
    model = recipe.self_contained(config, dataset, network)
    model.save(path)
    return model


def prepared(path, recipe=mnist, **changes):
    given = recipe.Config(dataset="synthetic", evaluate=str(path), **changes)
    strategy = training.strategy("default")
    return evaluation.prepare(recipe, resolve(recipe, given), strategy, given)[0]


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(mnist, id="mnist"), pytest.param(cifar, id="cifar", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "classes", [("bird", "cat", "dog"), ("dog", "bird", "cat"), ("dog", "cat")], ids=str
)
def test_labels_are_matched_by_name(recipe, classes, pets, tmp_path):
    model = saved(tmp_path / "model.keras", pets("bird", "cat", "dog"), recipe)
    dataset = pets(*classes)
    pixels, labels = dataset._arrays["test"]
    answers = np.array(["bird", "cat", "dog"])[model.predict(pixels, verbose=0).argmax(1)]
    expected = (answers == np.array(classes)[labels]).mean()
    run = prepared(tmp_path / "model.keras", recipe)
    assert run.model.evaluate(run.test, verbose=0, return_dict=True)["accuracy"] == expected
    assert len(set(answers)) > 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "dog", "fox"), "has 3 classes, .* and synthetic has 3, of which .* lacks 'fox'"),
        (("bird", "cat", "dog", "fox"), "The model has 3 classes, 'bird', .* has 4, of .* 'fox'"),
    ],
)
def test_a_class_that_the_model_lacks_is_refused(classes, message, pets, tmp_path):
    saved(tmp_path / "model.keras", pets("bird", "cat", "dog"))
    pets(*classes)
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path / "model.keras")


def test_one_name_in_two_unicode_forms_is_one_class(pets, tmp_path):
    saved(tmp_path / "model.keras", pets("cafe\u0301", "the"))
    pets("the", "caf\u00e9")
    assert prepared(tmp_path / "model.keras").dataset.class_names == ("cafe\u0301", "the")


def test_a_file_describes_its_network(pets, tmp_path):
    dataset = pets("bird", "cat", "dog")
    path = tmp_path / "moved" / "model.keras"
    for changes in ({"alpha": 0.3}, {"activation": "relu"}, {"activation": "parametric_elu"}):
        model = saved(path, dataset, **changes)
        run = prepared(path)
        found = run.model.get_layer("activation_1").get_config()
        assert found == model.get_layer("activation_1").get_config()
        pixels = dataset._arrays["test"][0]
        np.testing.assert_allclose(
            run.model.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-5
        )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"alpha": 2.0}, "has the alpha 0.3 in activation_1, not 2.0, unlike the flags"),
        ({"activation": "relu"}, "has ELU as its activation_1, not ReLU, unlike the flags"),
    ],
)
def test_flags_and_configs_that_disagree_with_the_file_are_refused(flags, message, pets, tmp_path):
    path = tmp_path / "model.keras"
    saved(path, pets("bird", "cat", "dog"), alpha=0.3)
    with pytest.raises(ValueError, match=message):
        prepared(path, **flags)
    prepared(path, alpha=0.3)
    (tmp_path / "config.json").write_text('{"recipe": "mnist", "dataset": "synthetic"}')
    with pytest.raises(ValueError, match=r"unlike its config\.json or the flags"):
        prepared(path)  # as the command line reads it, with alpha 1


@pytest.mark.parametrize("kind", ["plain", "several", "text", "size"])
def test_other_files_are_refused(kind, pets, tmp_path):
    path = tmp_path / "model.keras"
    dataset = pets("bird", "cat", "dog")
    model = saved(path, dataset)
    if kind == "plain":
        keras.Model(model.inputs[0], model.outputs[0]).save(path)
    elif kind == "several":
        keras.Model(model.inputs[0], [model.outputs[0]] * 2).save(path)
    elif kind == "text":
        path.write_text("no model")
    else:
        pets("bird", "cat", "dog", size=9)
    messages = {
        "plain": "does not name its classes",
        "several": "it has several inputs or outputs",
        "text": r"The model in .*model\.keras cannot be loaded \(",
        "size": r"takes images of shape \(8, 8, 1\), and those of synthetic have \(9, 9, 1\)",
    }
    with pytest.raises(ValueError, match=messages[kind]):
        prepared(path)


def test_code_in_a_file_is_not_executed(pets, tmp_path):
    pets("bird", "cat")
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: x[:, 0, :2, 0])(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="cannot be loaded"):
        prepared(tmp_path / "model.keras")


def test_weights_without_names_of_classes_are_refused(pets, tmp_path):
    dataset = pets("bird", "cat", "dog")
    config = resolve(mnist, mnist.Config(dataset="synthetic"))
    network, _ = mnist.build(config, dataset, 10)
    path = tmp_path / "run" / "weights" / "own.weights.h5"
    path.parent.mkdir(parents=True)
    network.save_weights(path)
    with pytest.raises(ValueError, match="does not name its classes"):
        prepared(path)
    (tmp_path / "run" / "class_names.json").write_text('["bird", "cat", "dog"]')
    run = prepared(path)
    assert run.dataset.class_names == ("bird", "cat", "dog")
    (tmp_path / "run" / "config.json").write_text('{"dataset": "digits"}')
    with pytest.raises(ValueError, match="holds weights for digits, not for synthetic"):
        prepared(path)


def test_ctrl_c_ends_an_evaluation_at_once_without_a_traceback(
    digits_run, data_dir, monkeypatch, capsys
):
    def evaluate(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr(fitting, "evaluate", evaluate)
    with pytest.raises(SystemExit) as stop:
        training.main(mnist, ["--evaluate", str(digits_run), "--data_dir", str(data_dir)])
    assert stop.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""
