"""The table of epochs: as the run had them, resumed, restarted, and on a disk that refuses."""

import csv
import errno

import pytest

from keras_elu.monitoring import history


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.csv"


def train(made, *epochs):
    for epoch in epochs:
        made.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "images_per_second": 9.0})


def test_every_epoch_is_a_row_whose_numbers_lose_nothing(path):
    made = history.History(path)
    made.on_train_begin()
    train(made, 0, 1, 2)
    assert [int(row["epoch"]) for row in rows(path)] == [0, 1, 2]
    assert [float(row["loss"]) for row in rows(path)] == [1.0, 1 / 2, 1 / 3]
    assert made.last == {"loss": 1 / 3}


def test_a_metric_that_begins_later_leaves_earlier_rows_empty(path):
    made = history.History(path)
    made.on_epoch_end(0, {"loss": 0.5})
    made.on_epoch_end(1, {"loss": 0.25, "val_loss": 2.0})
    assert [row["val_loss"] for row in rows(path)] == ["", "2.0"]


def test_a_resumed_run_drops_the_rows_after_its_checkpoint(path):
    made = history.History(path)
    train(made, 0, 1)
    state = {"rows": list(made.get_state()["rows"])}
    train(made, 2, 3)
    again = history.History(path)
    again.on_train_begin()
    again.set_state(state)
    assert [row["epoch"] for row in rows(path)] == ["0", "1"]
    train(again, 2)
    assert [row["epoch"] for row in rows(path)] == ["0", "1", "2"]


def test_a_run_that_starts_again_has_no_old_rows(path):
    train(history.History(path), 0, 1)
    again = history.History(path)
    again.on_train_begin()
    assert not path.exists()


def test_a_row_that_the_disk_refuses_is_written_with_the_next_one(path, monkeypatch, capsys):
    made, write = history.History(path), history.History.write
    train(made, 0)

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(history.History, "write", full)
    train(made, 1, 2)
    assert [row["epoch"] for row in rows(path)] == ["0"]
    monkeypatch.setattr(history.History, "write", write)
    train(made, 3)
    assert [row["epoch"] for row in rows(path)] == ["0", "1", "2", "3"]
    (line,) = capsys.readouterr().err.splitlines()  # one message for one full disk
    assert line.startswith(f"{path} could not be written (No space left on device)")
