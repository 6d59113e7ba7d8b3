"""The page docs/using.md, step by step in one folder, does what it says."""

import csv
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "using.md"
ELSEWHERE = {"imagenet", "FOLDER", "benchmarks/steps.py", "benchmarks/predict.py"}
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow, pytest.mark.xdist_group("using")]


def steps():
    """The arguments of Python in every step that needs no weights or data from elsewhere."""
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.S | re.M):
        if language == "python":
            yield ["-c", block]
        else:
            lines = map(shlex.split, block.splitlines())
            yield from (words[1:] for words in lines if not ELSEWHERE & set(words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder after all steps."""
    for module in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("user")
    (folder / "trainers").symlink_to(ROOT / "trainers")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(folder / "data"),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    for number, step in enumerate(steps()):
        done = subprocess.run(
            [sys.executable, *step], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (folder / f"step-{number}.txt").write_text(done.stdout)
    return folder


def printed(folder, words):
    """What the step whose command has these words printed."""
    for path in sorted(folder.glob("step-*.txt")):
        text = path.read_text()
        if words in text:
            return text
    raise AssertionError(words)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_the_files_have_exactly_the_accuracy_of_the_run(folder):
    with (folder / "digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(row["class"] == row["path"][-5] for row in rows)
    accuracy = result(folder / "runs/digits/after-10-epochs")["test"]["accuracy"]
    assert len(rows) == 360
    assert right == round(accuracy * 360)
    assert right > 0.9 * 360


def test_every_export_agrees_with_keras_and_has_a_card(folder):
    for to in ("savedmodel", "onnx", "litert"):
        assert "100.00% equal decisions" in printed(folder, f"as {to}: 360 images")
    for card in ("exported/README.md", "digits.md", "digits-int8.md"):
        assert "## Accuracy" in (folder / card).read_text()


def test_fine_tuning_takes_all_weights(folder):
    assert "18 variables taken; new: none" in printed(folder, "initial weights from runs/digits")


def test_fine_tuning_on_another_set_makes_a_new_head(folder):
    new = "new: logits/kernel, logits/bias"
    assert new in printed(folder, "initial weights from runs/mobilenet")
    assert json.loads((folder / "runs/parity/class_names.json").read_text()) == ["even", "odd"]


def test_the_longer_run_keeps_the_best_and_the_shorter(folder):
    run = folder / "runs" / "digits"
    assert "12 epochs instead of 10" in printed(folder, "epochs instead of")
    assert result(run)["epochs"] == 12
    assert result(run / "after-10-epochs")["epochs"] == 10
    with (run / "history.csv").open() as file:
        values = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    assert result(run)["best"]["epoch"] == 1 + values.index(max(values))
    assert (run / "best.keras").exists()
