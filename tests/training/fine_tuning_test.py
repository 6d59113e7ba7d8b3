"""Fine-tuning: what is taken, what is frozen, what learns slowly, and what is refused."""

import gc
import json
import re

import keras
import numpy as np
import pytest

from keras_elu import data, models, training
from keras_elu.recipes import applications, mnist
from keras_elu.training import config as config_module
from keras_elu.training import signals

pytestmark = pytest.mark.tensorflow
SHORT = {"--epochs": 1, "--steps_per_epoch": 3, "--batch_size": 16, "--dataset": "digits"}


@pytest.fixture
def train(data_dir, tmp_path, monkeypatch):
    """Trains in a folder, and returns it; with `stop`, stops after that many calls of `stop`."""

    def train(name, *flags, recipe=mnist, stop=None):
        calls = iter(range(stop or 0))
        monkeypatch.setattr(
            signals.StopSignals,
            "__call__",
            lambda _: stop is not None and next(calls, None) is None,
        )
        given = SHORT | {"--data_dir": data_dir, "--run_dir": tmp_path / name}
        given |= dict(zip(flags[::2], flags[1::2], strict=True))
        training.main(recipe, [str(word) for pair in given.items() for word in pair])
        return tmp_path / name

    return train


def weights(path):
    model = keras.saving.load_model(path, compile=False)
    return {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}


def test_weights_are_taken_frozen_and_slowed(train, digits_run, capsys):
    folder = train(
        "run",
        *("--initial_weights", digits_run, "--learning_rate", 0.01),
        *("--freeze", "dense_1,dense_2", "--backbone_learning_rate", 0),
    )
    shown = capsys.readouterr().out
    assert (
        f"initial weights from {digits_run / 'model.keras'}: 18 variables taken; new: none" in shown
    )
    before, after = weights(digits_run / "model.keras"), weights(folder / "model.keras")
    assert before.keys() == after.keys()
    for name, value in after.items():
        changed = (value != before[name]).any()
        assert changed == name.startswith("logits/"), name


@pytest.mark.slow
def test_a_slow_backbone_moves_by_its_fraction(train, digits_run):
    """After one step of SGD, the change of each variable is proportional to its learning rate."""
    flags = ("--initial_weights", digits_run, "--steps_per_epoch", 1, "--learning_rate", 0.01)
    start = weights(digits_run / "model.keras")
    whole, slow = (
        weights(train(name, *flags, "--backbone_learning_rate", factor) / "model.keras")
        for name, factor in (("whole", 1), ("slow", 0.25))
    )
    for name, value in start.items():
        factor = 1 if name.startswith("logits/") else 0.25
        expected = factor * (whole[name].astype("float64") - value)
        np.testing.assert_allclose(slow[name] - value, expected, rtol=1e-3, atol=1e-7)


def test_weight_decay_is_scaled_with_the_learning_rate():
    from keras_elu.steps import keras_internals

    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Dense(2)(x)))
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.1)
    slow = {id(v) for v in model.layers[1].weights}
    keras_internals.scale_learning_rate(optimizer, lambda v: 0.25 if id(v) in slow else 1.0)
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables
    before = [v.numpy() for v in variables]
    gradients = [keras.ops.ones_like(v) for v in variables]
    state = [v.value for v in optimizer.variables]
    after, _ = keras_internals.apply(optimizer, variables, state, gradients, before)
    for variable, old, new in zip(variables, before, after, strict=True):
        rate = 0.125 if id(variable) in slow else 0.5
        np.testing.assert_allclose(new, old * (1 - 0.1 * rate) - rate, rtol=1e-5, atol=1e-7)


def test_a_new_head_is_made_where_classes_differ(train, digits_run, tmp_path, capsys):
    network = models.mnist_mlp((8, 8, 1), classes=3)
    scale = keras.layers.Rescaling(1 / 255, name="scale")
    models.classifier(network, scale, class_names="abc").save(tmp_path / "other.keras")
    train("run", "--initial_weights", tmp_path / "other.keras")
    shown = capsys.readouterr().out
    assert "16 variables taken; new: logits/kernel, logits/bias" in shown


@pytest.mark.slow
def test_a_checkpoint_gives_its_weights_and_averages_where_there_are_some(train, capsys, tmp_path):
    with pytest.raises(SystemExit):
        train("stopped", stop=1)
    gc.collect()
    (file,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    for source in (tmp_path / "stopped", file):
        capsys.readouterr()
        train(f"from-{source.name}", "--initial_weights", source)
        assert "18 variables taken" in capsys.readouterr().out
    from keras_elu.training import initial_weights
    from keras_elu.training.store import Checkpoint

    names = ["a/kernel", "SGD/a_kernel_momentum", "SGD/a_kernel_average"]
    arrays = {f"variable {i}": np.full(2, i) for i in range(3)}
    checkpoint = Checkpoint(1, {"paths": names, "shapes": [[2]]}, arrays)
    (found,) = initial_weights._of_checkpoint(file, checkpoint).items()
    assert (found[0], found[1].tolist()) == ("a/kernel", [2, 2])


@pytest.mark.slow
def test_a_stopped_fine_tuning_resumes_exactly_without_the_initial_weights(
    train, digits_run, tmp_path
):
    kept = tmp_path / "kept.keras"
    kept.write_bytes((digits_run / "model.keras").read_bytes())
    flags = ("--initial_weights", kept, "--freeze", "dense_1", "--backbone_learning_rate", 0.5)
    straight = train("straight", *flags)
    with pytest.raises(SystemExit) as stop:
        train("run", *flags, stop=2)
    assert stop.value.code == 75
    del stop
    gc.collect()
    kept.unlink()
    folder = train("run", *flags)
    for name, value in weights(straight / "model.keras").items():
        np.testing.assert_array_equal(weights(folder / "model.keras")[name], value)


@pytest.mark.slow
def test_two_replicas_fine_tune_as_one(train, digits_run):
    flags = (
        "--initial_weights",
        digits_run,
        "--freeze",
        "dense_1",
        "--backbone_learning_rate",
        0.5,
    )
    one = weights(train("one", *flags) / "model.keras")
    two = weights(train("two", *flags, "--strategy", "mirrored") / "model.keras")
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_a_network_of_keras_applications_is_trained_and_fine_tuned(
    activation, train, data_dir, capsys
):
    flags = ("--activation", activation, "--steps_per_epoch", 1)
    first = train("first", *flags, recipe=applications)
    relu = keras.saving.load_model(first / "model.keras").get_layer("Conv1_relu")
    assert type(relu).__name__ == ("ELU" if activation == "elu" else "ReLU")
    more = ("--initial_weights", first, "--freeze", "Conv1,bn_Conv1,block_1")
    second = train("second", *flags, *more, recipe=applications)
    assert "new: none" in capsys.readouterr().out
    before, after = weights(first / "model.keras"), weights(second / "model.keras")
    for name in before:
        if name.startswith(("Conv1/", "bn_Conv1/", "block_1")):
            np.testing.assert_array_equal(before[name], after[name])  # moving statistics, too
    assert (before["bn_Conv1/moving_mean"] != 0).any()
    assert (before["Conv_1/kernel"] != after["Conv_1/kernel"]).any()
    test = json.loads((second / "result.json").read_text())["test"]["accuracy"]
    images = data.load("digits", data_dir=data_dir).evaluation(
        "test", 64, image_size=32, preprocess="none"
    )
    model = keras.saving.load_model(second / "model.keras")
    right = [model(x).numpy().argmax(-1) == y.numpy() for x, y in images]
    assert np.mean(np.concatenate(right)) == pytest.approx(test, abs=1e-6)


REFUSED = {
    "nowhere": (("--initial_weights", "nowhere"), "nowhere is not the folder of a run"),
    "a folder of something else": (("--initial_weights", "."), "neither a model.keras nor"),
    "text": (("--initial_weights", "text.keras"), "text.keras cannot be loaded"),
    "a damaged checkpoint": (("--initial_weights", "text.npz"), "damaged, or not a checkpoint"),
    "weights alone": (("--initial_weights", "a.weights.h5"), "nor a checkpoint or .keras file"),
    "nothing that fits": (("--initial_weights", "other.keras"), "holds nothing that fits"),
    "nothing to freeze": (("--freeze", "conv"), "'conv' begins the name of no layer"),
    "an empty prefix": (("--freeze", "dense_1,"), "'' begins the name of no layer"),
    "all is frozen": (("--freeze", "dense,logits"), "leaves no layer to train"),
    "a negative factor": (("--backbone_learning_rate", -1), "a number from 0 to 1000"),
    "no number": (("--backbone_learning_rate", "slow"), "--backbone_learning_rate"),
    "imagenet for another recipe": (("--initial_weights", "imagenet"), "imagenet is not"),
}


@pytest.mark.parametrize(("flags", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_fine_tuned_gets_one_sentence(
    flags, said, train, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "text.npz").write_text("text")
    x = keras.Input((3,))
    keras.Model(x, keras.layers.Dense(2, name="other")(x)).save("other.keras")
    with pytest.raises(SystemExit) as stop:
        train("run", *flags)
    assert stop.value.code == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert re.search(re.escape(said), line)
    assert not (tmp_path / "run").exists()


NETWORKS = {
    "unknown": (("--network", "ResNet51"), "no network 'ResNet51': it has"),
    "too small": (("--network", "Xception", "--image_size", 32), "Xception"),
}


@pytest.mark.parametrize(("flags", "said"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_there_is_not_gets_one_sentence(flags, said, train, capsys):
    if said == "Xception":
        said = "at least 71"
    with pytest.raises(SystemExit) as stop:
        train("run", *flags, recipe=applications)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_get_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise Exception("URL fetch failure on https://storage.googleapis.com: None")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    own = config_module.resolve(applications, applications.Config(dataset="digits"))
    with pytest.raises(ValueError, match="of MobileNetV2 cannot be downloaded \\(URL fetch"):
        applications.pretrained(own, data.synthetic((8, 8, 1)))
