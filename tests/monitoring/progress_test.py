"""The progress, the speed and the time left that a run shows."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_elu.monitoring import progress


class Clock:
    """A clock that only the test advances."""

    seconds = 100.0

    def perf_counter(self):
        return self.seconds


class Work(keras.callbacks.Callback):
    """Takes 50 s for the first step, 2 s for each further step and 30 s for a validation."""

    def __init__(self, clock):
        super().__init__()
        self._clock, self._first = clock, True

    def on_train_batch_begin(self, batch, logs=None):
        self._clock.seconds += 50.0 if self._first else 2.0
        self._first = False

    def on_test_end(self, logs=None):
        self._clock.seconds += 30.0


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


def test_the_speed_leaves_out_the_first_step_and_validation(model, monkeypatch, capsys, tmp_path):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    shown = progress.Progress(batch_size=8, steps=3, epochs=2)
    x, y = np.zeros((24, 3)), np.zeros((24, 2))
    model.fit(
        *(x, y),
        batch_size=8,
        epochs=2,
        validation_data=(x, y),
        verbose=0,
        callbacks=[Work(clock), shown, keras.callbacks.CSVLogger(tmp_path / "history.csv")],
    )
    assert shown.images_per_second == 4.0
    halfway, first, second = capsys.readouterr().out.splitlines()
    # Half a minute has passed, and there is no terminal.
    assert halfway.startswith("epoch 1/2  67% loss ")
    assert halfway.endswith("4 images/s  00:08 left")
    # Two steps of 2 s and a validation of 30 s for 2 steps since the first: 17 s for each of 3.
    assert first.startswith("epoch 1/2 loss ")
    assert first.endswith("4 images/s  00:51 left")
    assert second.endswith("4 images/s  00:00 left")
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [float(row["images_per_second"]) for row in rows] == [4.0, 4.0]


def test_an_execution_of_several_steps_counts_each_of_them(model, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    shown = progress.Progress(batch_size=4, steps=6, epochs=1)
    model.compile("sgd", "mse", steps_per_execution=2)
    x, y = np.zeros((24, 3)), np.zeros((24, 2))
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[Work(clock), shown])
    assert shown.images_per_second == 4.0  # two executions, each of 8 images in 2 s


@pytest.mark.parametrize("step", [0.25, 2.0], ids=["spans of steps", "steps longer than a span"])
def test_a_pause_does_not_change_the_speeds(step, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    shown, logs = progress.Progress(batch_size=8, steps=40, epochs=3), []

    def epoch(number, shown, pause):
        shown.on_epoch_begin(number)
        for batch in range(40):
            shown.on_train_batch_begin(batch)
            clock.seconds += step + (1000.0 if batch == 20 and pause else 0.0)
            shown.on_train_batch_end(batch, {})
        logs.append({})
        shown.on_epoch_end(number, logs[-1])

    epoch(0, shown, pause=True)
    resumed = progress.Progress(batch_size=8, steps=40, epochs=3)
    resumed.set_state(json.loads(json.dumps(shown.get_state())))
    epoch(1, resumed, pause=False)
    epoch(2, resumed, pause=True)
    assert [log["images_per_second"] for log in logs] == [8 / step] * 3
    assert resumed.images_per_second == 8 / step
    images, seconds = resumed.trained
    assert images / seconds < 0.5 * 8 / step  # a mean would be far below


def test_speeds_of_epochs_shorter_than_a_span_are_means_and_the_runs_is_their_median(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    shown = progress.Progress(batch_size=1, steps=3, epochs=3)
    for number, seconds in enumerate([0.125, 500.0, 0.25]):
        shown.on_epoch_begin(number)
        for batch in range(3):
            shown.on_train_batch_begin(batch)
            clock.seconds += seconds
            shown.on_train_batch_end(batch, {})
        shown.on_epoch_end(number, {})
    assert shown.images_per_second == 1 / 0.25


def test_a_single_step_has_no_speed(model):
    shown = progress.Progress(batch_size=4, steps=1, epochs=1)
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0, callbacks=[shown])
    assert np.isnan(shown.images_per_second)


def test_metrics_are_in_order_and_accuracies_in_percent():
    metrics = {"val_accuracy": 0.5, "accuracy": 0.98765, "val_loss": 2.0, "loss": 1e-5}
    assert (
        progress.metrics_text(metrics)
        == "loss 1e-05  accuracy 98.77%  val_loss 2  val_accuracy 50.00%"
    )


def test_an_epoch_with_no_steps_left_to_train_is_shown(capsys):
    shown = progress.Progress(batch_size=8, steps=3, epochs=2)
    shown.on_epoch_begin(1)
    shown.on_epoch_end(1, {"loss": 0.5})
    assert capsys.readouterr().out == "epoch 2/2 loss 0.5  ? images/s  ? left\n"


def test_a_resumed_epoch_counts_only_its_own_steps(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    shown = progress.Progress(batch_size=8, steps=5, epochs=1)
    shown.on_epoch_begin(0)
    for batch in (2, 3, 4):
        shown.on_train_batch_begin(batch)
        clock.seconds += 2.0
        shown.on_train_batch_end(batch, {"loss": 0.5})
    shown.on_epoch_end(0, {"loss": 0.5})
    assert shown.images_per_second == 4.0
    assert capsys.readouterr().out == "epoch 1/1 loss 0.5  4 images/s  00:00 left\n"
