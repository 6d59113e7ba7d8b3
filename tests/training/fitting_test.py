"""Training from its first step to the result."""

import types

import keras
import pytest

from keras_elu import data, training
from keras_elu.distributed.model import DistributedModel
from keras_elu.recipes import mnist
from keras_elu.training import fitting
from keras_elu.training.config import resolve


def fitted(path, dataset, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, **kwargs: dataset)
    config = mnist.Config(dataset="synthetic", batch_size=8, epochs=1, run_dir=str(path))
    config = resolve(mnist, config)
    folder = training.RunFolder(mnist, config)
    run = training.prepare_run(mnist, config, training.strategy("default"))
    callbacks = training.RunCallbacks(run, folder)
    folder.start(dataset.class_names, dataset.examples)
    return training.fit(run, callbacks)


def test_the_model_is_on_the_disk_before_anything_after_the_last_step_can_fail(
    tmp_path, monkeypatch
):
    dataset = data.synthetic((4, 4, 1), classes=3, examples=32)
    evaluate = DistributedModel.evaluate

    def fail(self, *arguments, return_dict=False, verbose=0, **keywords):
        if (tmp_path / "model.keras").exists():  # validation comes before
            raise OSError("a test image cannot be read")
        return evaluate(self, *arguments, return_dict=return_dict, verbose=verbose, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(DistributedModel, "evaluate", fail)
        with pytest.raises(OSError, match="a test image"):
            fitted(tmp_path, dataset, monkeypatch)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert saved.class_names == ("0", "1", "2")
    assert not (tmp_path / "result.json").exists()
    result = fitted(tmp_path, dataset, monkeypatch)
    assert (tmp_path / "result.json").exists()
    pixels = dataset.evaluation("test", 4, preprocess="none")
    assert saved.evaluate(pixels, verbose=0)[1] == pytest.approx(result["test"]["accuracy"])


def test_a_failure_is_named_by_the_steps_of_the_run():
    """The optimizer's number, here 3, leaves out the steps that a loss scale skipped."""

    def fit(*arguments, **keywords):
        raise training.NonFiniteLoss(3, offset=2)

    run = types.SimpleNamespace(
        config=mnist.Config(epochs=1),
        model=types.SimpleNamespace(fit=fit),
        training=lambda start: None,
        steps_per_epoch=9,
        validation=None,
    )
    checkpoints = types.SimpleNamespace(done=5, start=5, epoch=0, step=5)
    callbacks = types.SimpleNamespace(checkpoints=checkpoints, best=None, all=[])
    with pytest.raises(training.NonFiniteLoss, match=r"^The loss of step 7 is not finite\.$"):
        fitting._train(run, callbacks)
