"""The callback, against the functions whose results it logs."""

import keras
import numpy as np
import oracle
import pytest

from keras_elu import diagnostics


def compiled():
    model, x, labels = oracle.network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model, x, labels


def joined(by_layer):
    return np.concatenate(list(by_layer.values()))


def test_the_history_has_the_diagnostics_of_every_epoch(tmp_path):
    model, x, labels = compiled()
    callback = diagnostics.Diagnostics(x, labels, dense=["second"], record=tmp_path / "medians")
    history = model.fit(x, labels, epochs=2, callbacks=[callback], verbose=0).history
    assert {len(values) for values in history.values()} == {2}
    means = joined(diagnostics.unit_means(model, x))
    assert history["median_activation"][-1] == np.median(means)
    shift = joined(diagnostics.bias_shift(model, x, labels, 0.1))
    np.testing.assert_allclose(history["bias_shift"][-1], np.median(np.abs(shift)), rtol=1e-6)
    found = diagnostics.correction(model, "second", x, labels)
    for field, values in vars(found).items():
        assert history[f"second/{field}"][-1] == np.median(values)
    assert history["median_variance"][0] == 0
    assert history["median_variance"][1] > 0


def test_the_variance_continues_after_a_resumed_training(tmp_path):
    model, x, labels = compiled()
    whole = diagnostics.Diagnostics(x, record=tmp_path / "whole")
    expected = model.fit(x, labels, epochs=3, callbacks=[whole], verbose=0, shuffle=False)
    model, x, labels = compiled()
    parts = []
    for first, last in ((0, 1), (1, 3)):
        callback = diagnostics.Diagnostics(x, record=tmp_path / "parts")
        parts += model.fit(
            *(x, labels),
            initial_epoch=first,
            epochs=last,
            callbacks=[callback],
            verbose=0,
            shuffle=False,
        ).history["median_variance"]
    assert parts == expected.history["median_variance"]


def test_gradients_need_labels():
    with pytest.raises(ValueError, match="need the labels"):
        diagnostics.Diagnostics(np.zeros((1, 3)), dense=["second"])


@pytest.mark.tensorflow
def test_tensorboard_has_them_too(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    model, x, labels = compiled()
    callbacks = [diagnostics.Diagnostics(x), keras.callbacks.TensorBoard(tmp_path)]
    history = model.fit(x, labels, epochs=1, callbacks=callbacks, verbose=0).history
    events = event_accumulator.EventAccumulator(str(tmp_path / "train")).Reload()
    (event,) = events.Tensors("epoch_median_activation")
    written = np.frombuffer(event.tensor_proto.tensor_content, np.float32)
    assert written.tolist() == [np.float32(history["median_activation"][0])]
