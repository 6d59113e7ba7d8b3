"""The real commands, made small by their flags."""

import csv
import json
import re
import subprocess
import sys

import pytest

from tests.trainers.run_files import FILES

SHORT = ("--epochs", 2, "--steps_per_epoch", 2, "--batch_size", 16)
# TensorFlow's own lines, which none of its settings hides.
TENSORFLOW = re.compile(r"[IWE]\d{4} |WARNING: All log messages before|To enable the following")


def said(process):
    """The lines on stderr, without TensorFlow's."""
    return [line for line in process.stderr.splitlines() if not TENSORFLOW.match(line)]


def read(path):
    return json.loads(path.read_text())


def losses(folder):
    with (folder / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def mnist_run(trainer, tmp_path_factory):
    """The folder of a run of trainers/mnist.py."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = trainer("mnist", "--run_dir", folder, *SHORT, "--seed", 3, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_prints_its_progress_and_its_result(mnist_run):
    folder, done = mnist_run
    lines = done.stdout.splitlines()
    assert said(done) == []
    assert set(lines[0]) == {"*"}
    assert "mnist is not prepared here: THIS RUN USES THE 1,797 EMBEDDED DIGITS INSTEAD" in lines[1]
    assert "--dataset mnist" in lines[2]
    assert " PFLOP, replicas: 1," in lines[4]
    assert [line[:9] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert lines[-4].startswith("test ")
    assert str(folder) in lines[-2]
    assert f"tensorboard.main --logdir {folder.parent}" in lines[-1]


def test_a_run_fills_its_folder(mnist_run):
    folder, _ = mnist_run
    assert {path.name for path in folder.iterdir()} == FILES
    for split in ("train", "validation"):
        assert list((folder / "tensorboard" / split).glob("events.*"))
    result = read(folder / "result.json")
    assert (result["dataset"], result["epochs"], result["steps"]) == ("digits", 2, 4)
    assert result["parameters"] == 64 * 128 + 128 + 7 * (128 * 128 + 128) + 128 * 10 + 10
    images = 4 * read(folder / "config.json")["batch_size"]
    arithmetic = 6 * (64 * 128 + 7 * 128 * 128 + 128 * 10) * images
    assert result["pflop"] == pytest.approx(arithmetic / 1e15)
    assert result["images_per_second"] > 0
    for split in ("training", "validation", "test"):
        assert 0 <= result[split]["accuracy"] <= 1
    assert len(losses(folder)) == 2


@pytest.mark.slow
def test_a_repeated_run_gives_the_same_losses_and_flags_override_its_config(
    mnist_run, trainer, tmp_path
):
    flags = ("--config", mnist_run[0] / "config.json", "--run_dir")
    done = trainer("mnist", *flags, "same", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "same") == losses(mnist_run[0])
    assert read(tmp_path / "same" / "config.json") == read(mnist_run[0] / "config.json")
    done = trainer("mnist", *flags, "other", "--seed", 4, "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "other")[0] != losses(mnist_run[0])[0]


def test_a_complete_run_is_not_repeated_and_another_run_is_refused_in_its_folder(
    mnist_run, trainer, tmp_path
):
    before = {path: path.stat().st_mtime_ns for path in mnist_run[0].rglob("*")}
    flags = ("--run_dir", mnist_run[0], "--config", mnist_run[0] / "config.json")
    done = trainer("mnist", *flags, cwd=tmp_path)
    assert (done.returncode, said(done)) == (0, [])
    assert "this run, already complete" in done.stdout
    refused = trainer("mnist", *flags, "--alpha", 0.5, cwd=tmp_path)
    assert refused.returncode == 2
    assert "another alpha, 1.0 instead of 0.5" in said(refused)[0]
    assert {path: path.stat().st_mtime_ns for path in mnist_run[0].rglob("*")} == before


def test_evaluating_a_run_gives_its_metrics_and_writes_nothing(mnist_run, trainer, tmp_path):
    folder, trained = mnist_run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = trainer("mnist", "--evaluate", folder, cwd=tmp_path)
    assert (done.returncode, said(done)) == (0, [])
    lines = [line for line in trained.stdout.splitlines() if line.startswith(("valid", "test"))]
    assert done.stdout.splitlines()[1:] == lines
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert list(tmp_path.iterdir()) == []
    other = trainer("cifar", "--evaluate", folder / "model.keras", cwd=tmp_path)
    assert other.returncode == 2
    assert "the file belongs to the recipe 'mnist', not 'cifar'" in said(other)[0]


MIRRORED = ("--strategy", "mirrored", "--virtual_devices", 2)
RUNS = {
    "autoencoder": (),
    "cifar": ("--jit_compile", "off", "--activation", "parametric_elu", "--alpha", 0.5),
    "fast_cifar": (),
    "imagenet": (*MIRRORED, "--width", 1 / 64, "--precision", "mixed_bfloat16"),
}
LOAD = """
import sys, keras, keras_elu
model = keras.saving.load_model(sys.argv[1])
counts = [layer.count_params() for layer in model.layers if layer.name != "whitening"]
print(sum(counts), len(model.optimizer.variables))
"""


@pytest.mark.parametrize(
    ("name", "flags"),
    [pytest.param(name, flags, marks=pytest.mark.slow, id=name) for name, flags in RUNS.items()],
)
def test_every_trainer_runs_and_its_model_loads_in_another_process(name, flags, trainer, tmp_path):
    done = trainer(name, *SHORT, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said(done) == []
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == FILES
    assert folder.name.startswith(f"{name}-digits-")
    assert f"replicas: {2 if 'mirrored' in flags else 1}," in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, folder / "model.keras"],
        capture_output=True,
        text=True,
        check=True,
    )
    parameters, variables = map(int, loaded.stdout.split())
    assert parameters == read(folder / "result.json")["parameters"]
    assert variables > 0


BAD = {
    "an unknown flag": ("cifar", "--bogus", 1),
    "a batch of one": ("imagenet", *MIRRORED, "--batch_size", 1),
    "no workers": ("mnist", "--strategy", "multiworker"),
    "no archive": ("mnist", "--dataset", "mnist", "--manual_dir", "."),
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] * (name != "an unknown flag"), id=name)
        for name, command in BAD.items()
    ],
)
def test_a_wrong_command_ends_with_one_sentence_and_exit_code_2(command, trainer, tmp_path):
    done = trainer(*command, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = said(done)
    assert line.startswith("error: ")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_diverges_fails_without_a_result(trainer, tmp_path):
    flags = ("--dataset", "digits", "--learning_rate", 1e9, "--run_dir", "run")
    done = trainer("mnist", *SHORT, *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert "--learning_rate" in said(done)[-1]
    assert not (tmp_path / "run" / "result.json").exists()
