"""The doctor finds what limits a trainer that was made to be limited by it."""

import pathlib
import textwrap

import pytest
import sklearn.datasets

from keras_elu.data import datasets, prepare_imagenet, shards, workers
from keras_elu.training import config, doctor

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "trainer.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder with a prepared set of photographs, small."""

    def here(count, jobs, recipe):
        for job in jobs:
            shards.write(job, recipe)
            yield len(job.images)

    monkeypatch.setattr(workers, "run", here)
    paths = pathlib.Path(sklearn.datasets.__file__).parent.glob("images/*.jpg")
    for path in paths:
        for place in [f"train/{path.stem}/{i}.jpg" for i in range(16)] + [f"val/{path.stem}/1.jpg"]:
            (tmp_path / "source" / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / place).write_bytes(path.read_bytes())
    folders = [str(tmp_path / "source"), str(tmp_path / "prepared")]
    assert prepare_imagenet.main([*folders, "--name", "photographs"]) == 0
    return folders[1]


TINY = """
import types
import keras
from keras_elu.recipes import imagenet as original
recipe = types.ModuleType("recipe", "A network that has nothing to do.")
recipe.Config, recipe.datasets = original.Config, original.datasets
recipe.DEFAULTS, recipe.SOURCE = original.DEFAULTS, original.SOURCE
def build(config, dataset, steps):
    inputs = keras.Input((224, 224, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D(8)(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outputs = keras.layers.Dense(dataset.classes)(pooled)
    return keras.Model(inputs, outputs), {"optimizer": "sgd", "loss": loss}
recipe.build = build
del original
"""


def verdict(capsys, arguments, monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.4)
    capsys.readouterr()
    assert doctor.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_a_tiny_network_on_photographs_is_limited_by_its_input(
    script, photographs, capsys, monkeypatch
):
    flags = ["--dataset", "photographs", "--data_dir", photographs, "--batch_size", "32"]
    head, *table, first, second, third = verdict(capsys, [script(TINY), *flags], monkeypatch)[:7]
    assert head.startswith("recipe on photographs: batches of 32 images, cores: ")
    assert [line.split("  ")[0] for line in table] == ["input alone", "step alone", "both"]
    assert first.startswith("THE INPUT LIMITS: the step could take ")
    assert "--resize 256, and train on photographs_256" in second
    assert "--raw" in third


def test_a_large_network_on_digits_is_limited_by_its_step(data_dir, capsys, monkeypatch):
    flags = ["--dataset", "digits", "--data_dir", str(data_dir), "--width", "0.25"]
    lines = verdict(capsys, [str(ROOT / "trainers/imagenet.py"), *flags], monkeypatch)
    assert lines[4].startswith("THE STEP LIMITS: the input could give ")
    assert "needs 1 cores" in lines[4]
    assert lines[5].startswith("Neither more cores")


CASES = {
    "whole photographs": (
        {"input": 1000, "per_core": 500, "step": 4100},
        "photographs",
        ["4.1 times as many", "needs 9 cores for its input; there are 2.", "--resize", "9 cores."],
        ["leaves"],
    ),
    "smaller ones": (
        {"input": 1000, "per_core": 500, "step": 2000},
        "photographs_256",
        ["--raw", "with 4 cores"],
        ["--resize"],
    ),
    "pixels": (
        {"input": 1000, "per_core": 500, "step": 2000},
        "photographs_256_raw",
        ["with 4 cores"],
        ["--resize", "--raw"],
    ),
    "a disk that is slow": (
        {"input": 100, "per_core": 500, "step": 800},
        "photographs",
        ["leaves 90% of the cores idle"],
        ["--resize", "machine"],
    ),
    "a step that is slow": (
        {"input": 1000, "per_core": 500, "step": 250},
        "photographs",
        ["could give 4.0 times as many", "needs 1 cores"],
        ["--resize", "--raw", "Together"],
    ),
}


@pytest.mark.parametrize(("speeds", "name", "parts", "others"), CASES.values(), ids=CASES)
def test_what_to_change_follows_from_the_speeds(speeds, name, parts, others):
    both = 0.9 * min(speeds["input"], speeds["step"])
    dataset = type("Streamed", (), {"name": name})()
    said = " ".join(
        doctor.advice(doctor.Findings(**speeds, both=both, cores=2), dataset, config.Config())
    )
    assert all(part in said for part in parts), said
    assert not any(part in said for part in others), said


def test_what_is_lost_together_is_said():
    found = doctor.Findings(input=1000, per_core=500, step=900, both=450, cores=2)
    said = doctor.advice(found, datasets.synthetic(examples=8), config.Config())
    assert said[-1].startswith("Together they reach 50% of the slower one:")


BAD = {
    "no script": ([], "Nothing is not a trainer's script"),
    "an unknown flag": (["trainers/mnist.py", "--bogus"], "--bogus"),
    "several workers": (["trainers/mnist.py", "--strategy", "multiworker"], "one worker"),
    "no data set": (["trainers/mnist.py", "--dataset", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize(("arguments", "part"), BAD.values(), ids=BAD)
def test_a_wrong_command_ends_with_one_sentence_and_exit_code_2(
    arguments, part, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    assert doctor.main(arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (out, line[:7], line[-1]) == ("", "error: ", ".")
    assert part in line
