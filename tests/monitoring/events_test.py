"""TensorBoard reads every event once, at its step, also after a kill and while it stays open."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.plugins.hparams import api_pb2

from keras_elu.monitoring.events import EventLog
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


def board(folder, **arguments):
    made = TensorBoard(folder, STEPS, **arguments)
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


def test_every_metric_is_at_the_last_step_of_its_epoch(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    made.flush()
    assert scalars(tmp_path / "train") == {"epoch_loss": [(4, 0.5), (8, 1.5)]}
    assert scalars(tmp_path / "validation") == {"epoch_loss": [(4, 0.25), (8, 1.25)]}


def test_a_resumed_run_has_every_event_once(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    state = made.get_state()
    epochs(made, 2, 3)  # lost: the checkpoint is older
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


def test_a_run_that_starts_again_has_no_old_events(tmp_path):
    made = board(tmp_path)
    epochs(made, 0, 1)
    made.flush()
    again = board(tmp_path)
    epochs(again, 0)
    again.flush()
    assert scalars(tmp_path / "train")["epoch_loss"] == [(4, 0.5)]


@pytest.mark.parametrize("cut", [1, 9, 20])
def test_an_event_that_a_kill_has_cut_is_dropped(cut, tmp_path):
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


def add(log, *points):
    for step, value in points:
        log.scalars(["loss"], [value], step)
    log.flush()


BEFORE = [(step, float(step)) for step in range(1, 9)]
AFTER = [(step, step + 0.5) for step in range(6, 11)]


def resumed(folder, count):
    log = EventLog(folder)
    log.go_to(count)
    return log


def test_a_reader_that_stays_open_drops_what_a_kill_has_lost(tmp_path):
    read = plugin_event_accumulator.EventAccumulator(str(tmp_path))

    def curve():
        read.Reload()
        return [(event.step, read_value(event)) for event in read.Tensors("loss")]

    add(EventLog(tmp_path), *BEFORE)
    assert curve() == BEFORE
    add(resumed(tmp_path, 5), *AFTER[:2])
    assert curve() == BEFORE[:5] + AFTER[:2]
    log = resumed(tmp_path, 6)
    add(log, *AFTER[1:3])
    assert curve() == BEFORE[:5] + AFTER[:3]
    add(log, *AFTER[3:])
    assert curve() == BEFORE[:5] + AFTER


@contextlib.contextmanager
def served(folder, *flags):
    """Returns a function of a path and its parameters that asks a TensorBoard process."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = next(line for line in process.stdout if "http://" in line)
        address = re.search(r"http://[^/]+", line)[0]

        def get(path, content=None, **parameters):
            request = urllib.request.Request(
                f"{address}/data/plugin/{path}?{urllib.parse.urlencode(parameters)}",
                json.dumps(content).encode() if content else None,
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)

        yield get
    finally:
        process.terminate()
        process.communicate()


def becomes(ask, wanted):
    """Whether an answer becomes the wanted one; TensorBoard reads files in the background."""
    deadline, answer = time.monotonic() + 60, None
    while answer != wanted and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.HTTPError):  # it knows no such tag yet
            answer = ask()
        time.sleep(0.2)
    assert answer == wanted
    return True


@pytest.mark.slow
@pytest.mark.parametrize("fast", ["true", "false"])
def test_tensorboard_that_stays_open_shows_the_resumed_curve(fast, tmp_path):
    add(EventLog(tmp_path / "train"), *BEFORE)
    with served(tmp_path, "--reload_interval", "1", "--load_fast", fast) as get:

        def curve():
            points = get("scalars/scalars", run="train", tag="loss")
            return [(step, value) for _, step, value in points]

        assert becomes(curve, BEFORE)
        log = resumed(tmp_path / "train", 5)
        add(log, *AFTER[:2])
        assert becomes(curve, BEFORE[:5] + AFTER[:2])
        add(log, *AFTER[2:])
        assert becomes(curve, BEFORE[:5] + AFTER)


@pytest.mark.slow
def test_hparams_has_a_column_for_every_flag_of_every_run_and_the_test_metrics(tmp_path):
    flags = {
        "a": {"learning_rate": 0.1, "profile": None, "seed": 1},
        "b": {"learning_rate": 0.2, "profile": "1:2", "depth": 8},
    }
    for name, given in flags.items():
        made = board(tmp_path / name, hyperparameters=given)
        made.set_params({"epochs": 2})
        epochs(made, 0, 1)
        made.finish({"loss": 0.5, "accuracy": 0.75}, tf.data.Dataset.from_tensors([[1.0]]), 1)
    with served(tmp_path) as get:

        def columns():
            found = get("hparams/experiment", {"experimentName": ""})
            metrics = {(m["name"].get("group", ""), m["name"]["tag"]) for m in found["metricInfos"]}
            return {info["name"] for info in found["hparamInfos"]}, metrics

        metrics = {("", "test_loss"), ("", "test_accuracy")}
        assert becomes(columns, (set(flags["a"]) | set(flags["b"]), metrics))
        asked = {"experimentName": "", "colParams": [], "startIndex": 0, "sliceSize": 9}
        asked["allowedStatuses"] = [api_pb2.Status.Name(api_pb2.STATUS_SUCCESS)]
        groups = get("hparams/session_groups", asked)["sessionGroups"]
        shown = sorted((group["hparams"] for group in groups), key=lambda row: row["learning_rate"])
        assert shown == [
            {key: value for key, value in given.items() if value is not None}
            for given in flags.values()
        ]
