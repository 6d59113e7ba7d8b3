"""Training longer, keeping the best epoch and stopping early: the same as without interruption."""

import csv
import errno
import gc
import json
import re

import keras
import pytest

from keras_elu import files, training
from keras_elu.recipes import imagenet_resnet, mnist
from keras_elu.training import signals

SLOW = pytest.mark.slow
pytestmark = pytest.mark.tensorflow
SMALL = ("--dataset", "digits", "--batch_size", 32, "--steps_per_epoch", 3)
TIMING = ("images_per_second", "seconds")
COSINE = ("--learning_rate_schedule", "cosine", "--learning_rate_end", 0.25)


@pytest.fixture
def train(data_dir, tmp_path, monkeypatch):
    """Trains in a folder, and returns it; with `stop`, stops after that many calls of `stop`."""

    def train(name, *flags, stop=None, recipe=mnist):
        calls = iter(range(stop or 0))

        def stops(_):
            return stop is not None and next(calls, None) is None

        monkeypatch.setattr(signals.StopSignals, "__call__", stops)
        given = [*SMALL, "--data_dir", data_dir, "--run_dir", tmp_path / name, *flags]
        training.main(recipe, [str(flag) for flag in given])
        return tmp_path / name

    return train


def rows(folder):
    with (folder / "history.csv").open() as file:
        kept = csv.DictReader(file)
        return [{k: v for k, v in row.items() if k not in TIMING} for row in kept]


def result(folder):
    return json.loads((folder / "result.json").read_text())


def weights(path):
    return [v.tobytes() for v in keras.saving.load_model(path, compile=False).get_weights()]


def same(folder, other, names=("model.keras",)):
    assert rows(folder) == rows(other)
    results = [{k: v for k, v in result(f).items() if k not in TIMING} for f in (folder, other)]
    assert results[0] == results[1]
    for name in names:
        assert weights(folder / name) == weights(other / name)


def refused(capsys, train, *arguments, **keywords):
    with pytest.raises(SystemExit) as stop:
        train(*arguments, **keywords)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return line


def stopped(train, *arguments, **keywords):
    with pytest.raises(SystemExit) as stop:
        train(*arguments, **keywords)
    assert stop.value.code == 75
    del stop
    gc.collect()  # releases the lock that its frames hold


@pytest.mark.slow
def test_a_complete_run_trained_longer_is_the_longer_run_and_keeps_the_shorter(train, capsys):
    warmup = ("--learning_rate_warmup", 0.5)
    folder = train("run", *warmup, "--epochs", 2)
    shorter, before = weights(folder / "model.keras"), result(folder)
    capsys.readouterr()
    train("run", *warmup, "--epochs", 4)
    assert "4 epochs instead of 2: the learning rate keeps its schedule" in capsys.readouterr().out
    same(folder, train("straight", *warmup, "--epochs", 4, "--schedule_epochs", 2))
    kept = folder / "after-2-epochs"
    assert weights(kept / "model.keras") == shorter
    assert result(kept) == before
    assert json.loads((kept / "config.json").read_text())["epochs"] == 2
    train("run", *warmup, "--epochs", 4)
    assert "already complete" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train("run", *warmup, "--epochs", 3)
    assert "another epochs, 4 instead of 3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5])
def test_a_stopped_run_continues_with_more_epochs(train, stop):
    stopped(train, "run", "--epochs", 2, stop=stop)
    stopped(train, "run", "--epochs", 3, stop=2)
    same(train("run", "--epochs", 3), train("straight", "--epochs", 3))


def test_a_run_that_cannot_be_saved_when_it_stops_fails(train, monkeypatch, capsys):
    complete = files.complete

    def refuse(unfinished, path):
        if path.suffix == ".npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        complete(unfinished, path)

    monkeypatch.setattr(files, "complete", refuse)
    with pytest.raises(SystemExit) as stop:
        train("run", "--epochs", 1, stop=1)
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert "error: The run stopped, but step 2 could not be saved in " in err
    assert "Stopped and saved" not in err


@pytest.mark.slow
def test_a_schedule_is_kept_or_stretched_but_only_on_request(train, capsys):
    folder = train("run", *COSINE, "--epochs", 2)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    line = refused(capsys, train, "run", *COSINE, "--epochs", 4)
    assert "learning rate follows a cosine schedule" in line
    assert all(word in line for word in ("--schedule_epochs 2", "--schedule_epochs 4"))
    assert f"--initial_weights {folder}" in line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    train("run", *COSINE, "--epochs", 3, "--schedule_epochs", 2)
    assert "ends at 0.0075" in capsys.readouterr().out
    same(folder, train("kept", *COSINE, "--epochs", 3, "--schedule_epochs", 2))
    train("run", *COSINE, "--epochs", 4, "--schedule_epochs", 8)
    assert "a schedule of 8 epochs instead of 2, from 0.0" in capsys.readouterr().out
    assert [path.name for path in sorted(folder.glob("after-*"))] == [
        "after-2-epochs",
        "after-3-epochs",
    ]


@pytest.mark.slow
def test_epochs_that_change_nothing_and_runs_without_a_checkpoint_are_refused(train, capsys):
    to_zero = COSINE[:2]
    folder = train("run", *to_zero, "--epochs", 1)
    line = refused(capsys, train, "run", *to_zero, "--epochs", 2, "--schedule_epochs", 1)
    assert "is 0 after epoch 1: add --schedule_epochs 2" in line
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    line = refused(capsys, train, "run", *to_zero, "--epochs", 2, "--schedule_epochs", 2)
    assert "without a checkpoint" in line
    assert (folder / "result.json").exists()


def test_a_complete_run_whose_only_checkpoint_is_damaged_is_refused_and_kept(train, capsys):
    folder = train("run", "--epochs", 1)
    (checkpoint,) = (folder / "checkpoints").iterdir()
    checkpoint.write_bytes(b"PK")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    line = refused(capsys, train, "run", "--epochs", 2)
    assert "holds a complete run without a checkpoint to continue from: begin a new run" in line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("metric", [pytest.param("val_loss", marks=SLOW), "val_accuracy"])
def test_the_best_model_is_that_of_a_run_that_ends_with_the_best_epoch(train, metric, capsys):
    flags = ("--learning_rate", 0.06, "--seed", 3)
    folder = train("run", *flags, "--epochs", 5, "--keep_best", metric)
    best = result(folder)["best"]
    values = [float(row[metric]) for row in rows(folder)]
    expected = 1 + values.index((min if metric == "val_loss" else max)(values))
    assert (best["model"], best["metric"], best["epoch"]) == ("best.keras", metric, expected)
    assert f"best.keras is the model of epoch {expected}" in capsys.readouterr().out
    short = train("short", *flags, "--epochs", expected)
    assert weights(folder / "best.keras") == weights(short / "model.keras")
    assert best["test"] == result(short)["test"]
    assert best["validation"] == result(short)["validation"]
    assert result(folder)["model"] == "model.keras"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [4, 9, 14])
def test_the_best_epoch_and_the_patience_survive_a_stop(train, stop):
    flags = ("--learning_rate", 0.06, "--seed", 3, "--epochs", 9)
    flags += ("--keep_best", "val_loss", "--patience", 2)
    straight = train("straight", *flags)
    stopped(train, "run", *flags, stop=stop)
    same(train("run", *flags), straight, ("model.keras", "best.keras"))


@pytest.mark.slow
def test_a_run_without_improvement_stops_and_continues_with_more_patience(train, capsys):
    flags = ("--learning_rate", 0.06, "--seed", 3, "--epochs", 8, "--keep_best", "val_loss")
    values = [float(row["val_loss"]) for row in rows(train("whole", *flags))]
    best = [min(range(n + 1), key=values.__getitem__) for n in range(len(values))]
    done = next(n + 1 for n in range(len(values)) if n - best[n] >= 1)
    assert done < 7, "the test needs a run that becomes worse early"
    folder = train("run", *flags, "--patience", 1)
    assert (result(folder)["epochs"], result(folder)["stopped_after"]) == (done, done)
    assert len(rows(folder)) == done
    assert result(folder)["steps"] == 3 * done
    line = refused(capsys, train, "run", *flags[:5], 9, *flags[6:], "--patience", 1)
    assert f"stopped after epoch {done}: add a greater --patience" in line
    train("run", *flags, "--patience", 9)
    assert result(folder)["epochs"] == 8
    assert rows(folder) == rows(tmp := train("whole", *flags))
    assert weights(folder / "best.keras") == weights(tmp / "best.keras")
    assert (folder / f"after-{done}-epochs" / "result.json").exists()


@pytest.mark.slow
def test_the_best_model_has_the_averaged_weights(train):
    flags = ("--epochs", 2, "--precision", "float32", "--keep_best", "val_loss")
    folder = train("run", *flags, "--image_size", 32, recipe=imagenet_resnet)
    found = result(folder)
    assert found["best"]["epoch"] == 2, "the test needs a run whose last epoch is the best"
    assert found["best"]["test"] == found["test"]
    assert weights(folder / "best.keras") == weights(folder / "model.keras")


REFUSED = {
    "an unknown metric": (("--keep_best", "accuracy"), "one of val_loss, val_accuracy"),
    "patience alone": (("--patience", 2), "add --keep_best"),
    "test images": (
        ("--keep_best", "val_loss", "--validation_examples", 0),
        "would choose by the test images",
    ),
}


@pytest.mark.parametrize(("flags", "said"), REFUSED.values(), ids=REFUSED)
def test_a_best_epoch_without_a_meaning_is_refused(flags, said, train, capsys, tmp_path):
    assert re.search(said, refused(capsys, train, "run", "--epochs", 1, *flags))
    assert not (tmp_path / "run").exists()
