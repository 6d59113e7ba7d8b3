"""The events of TensorBoard: each once, on the axis of the steps, also after a kill."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_elu.monitoring.tensorboard import TensorBoard

STEPS = 4


def scalars(folder):
    """Steps and values by tag, as TensorBoard reads them."""
    read = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    read.Reload()
    return {
        tag: [(event.step, read_value(event)) for event in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
    }


def read_value(event):
    return float(tf.make_ndarray(event.tensor_proto))


def board(folder):
    made = TensorBoard(folder, STEPS)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(0.25), "mse")
    made.set_model(model)
    made.on_train_begin()
    return made


def epochs(made, *numbers):
    for epoch in numbers:
        made.on_epoch_begin(epoch)
        made.on_epoch_end(epoch, {"loss": epoch + 0.5, "val_loss": epoch + 0.25})


def test_every_metric_stands_at_the_step_at_which_its_epoch_ended(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    made.flush()
    assert scalars(tmp_path / "train") == {"epoch_loss": [(4, 0.5), (8, 1.5)]}
    assert scalars(tmp_path / "validation") == {"epoch_loss": [(4, 0.25), (8, 1.25)]}


def test_a_run_that_goes_on_has_every_event_once(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    state = made.get_state()
    epochs(made, 2, 3)  # lost, for the checkpoint is from before
    made.flush()
    again = board(tmp_path)
    again.set_state(state)
    epochs(again, 2)
    state = again.get_state()
    epochs(again, 3)
    last = board(tmp_path)
    last.set_state(state)
    epochs(last, 3, 4)
    last.flush()
    for name, digit in (("train", 0.5), ("validation", 0.25)):
        expected = [(STEPS * (epoch + 1), epoch + digit) for epoch in range(5)]
        assert scalars(tmp_path / name)["epoch_loss"] == expected


def test_a_run_that_begins_again_has_no_old_events(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    made.flush()
    again = board(tmp_path)
    epochs(again, 0)
    again.flush()
    assert scalars(tmp_path / "train")["epoch_loss"] == [(4, 0.5)]


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_an_event_that_a_kill_has_cut_is_left_out(cut, tmp_path):
    made = board(tmp_path)
    epochs(made, 0)
    state = made.get_state()
    epochs(made, 1)
    made.flush()
    (path,) = (tmp_path / "train").iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    again = board(tmp_path)
    again.set_state(state)
    epochs(again, 1)
    again.flush()
    assert scalars(tmp_path / "train")["epoch_loss"] == [(4, 0.5), (8, 1.5)]


def test_values_are_kept_in_every_bit(tmp_path):
    made = board(tmp_path)
    values = np.random.default_rng(0).normal(size=20).astype("float32")
    for epoch, value in enumerate(values):
        made.on_epoch_begin(epoch)
        made.on_epoch_end(epoch, {"loss": float(value)})
    state = made.get_state()
    made.flush()
    again = board(tmp_path)
    again.set_state(state)
    again.on_epoch_begin(20)
    again.on_epoch_end(20, {"loss": 0.0})
    again.flush()
    found = [value for _, value in scalars(tmp_path / "train")["epoch_loss"]]
    np.testing.assert_array_equal(np.float32(found[:-1]), values)
