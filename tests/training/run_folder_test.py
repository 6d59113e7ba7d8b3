"""One folder holds one config, and nothing is half written."""

import dataclasses
import json
import subprocess
import sys

import keras
import pytest

from keras_elu.recipes import imagenet, mnist
from keras_elu.training import RunFolder, run_folder

CONFIG = mnist.Config(dataset="digits", batch_size=8, learning_rate=0.1, epochs=2)
CLASSES = ["cat", "dog"]
EXAMPLES = {"train": 8, "validation": 2}


def folder(path, recipe=mnist, **changes):
    return RunFolder(recipe, dataclasses.replace(CONFIG, run_dir=str(path), **changes))


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_a_folder_holds_the_config_and_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "tests" / "module.py"), "--flag"])
    made = folder(tmp_path / "new" / "run")
    assert not made.path.exists()
    made.start(CLASSES, EXAMPLES)
    config = json.loads((made.path / "config.json").read_text())
    assert config.pop("recipe") == "mnist"
    assert mnist.Config(run_dir=str(made.path), **config) == dataclasses.replace(
        CONFIG, run_dir=str(made.path)
    )
    environment = json.loads((made.path / "environment.json").read_text())
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["arguments"] == ["tests/module.py", "--flag"]  # no folder of this machine
    assert {"commit", "accelerators", "devices", "started"} <= environment.keys()


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"alpha": 0.5}, "alpha"), ({"seed": 1}, "seed"), ({"dataset": "mnist"}, "dataset")],
)
def test_a_folder_with_another_config_is_refused_and_kept(changes, key, tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"another {key}, "):
        folder(tmp_path, **changes)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    with pytest.raises(ValueError, match="another recipe, 'mnist' instead of 'imagenet'"):
        folder(tmp_path, recipe=imagenet)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_folder_with_a_broken_config_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match="not those of a run"):
        folder(tmp_path)


def test_fields_that_only_affect_how_a_run_computes_may_change_on_resume(tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    changes = {"strategy": "mirrored", "virtual_devices": 2, "checkpoint_every": "7"}
    folder(tmp_path, **changes).start(CLASSES, EXAMPLES)
    held = json.loads((tmp_path / "config.json").read_text())
    assert {key: held[key] for key in changes} == changes


@pytest.mark.parametrize("left", ["lock", "unfinished-config.json"])
def test_a_run_that_was_killed_before_its_config_was_written_starts(left, tmp_path):
    (tmp_path / left).write_text("{")
    folder(tmp_path).start(CLASSES, EXAMPLES)
    assert not folder(tmp_path).complete


def test_a_folder_is_refused_while_another_process_uses_it_and_accepted_afterwards(tmp_path):
    path = str(tmp_path)
    code = f"""
import sys
from keras_elu.recipes import mnist
from keras_elu.training import RunFolder
config = mnist.Config(dataset="digits", batch_size=8, learning_rate=0.1, epochs=2, run_dir={path!r})
folder = RunFolder(mnist, config)
folder.start({CLASSES}, {EXAMPLES})
print("started", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"started\n"
        with pytest.raises(ValueError, match=f"is in use by process {other.pid} on "):
            folder(tmp_path).start(CLASSES, EXAMPLES)
        other.kill()
    folder(tmp_path).start(CLASSES, EXAMPLES)


def test_a_run_whose_data_set_has_other_classes_now_is_refused(tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    assert run_folder.read_class_names(tmp_path) == ("cat", "dog")
    for others in (["dog", "cat"], ["cat"], ["cat", "fox"]):
        with pytest.raises(ValueError, match="holds a run with other classes"):
            folder(tmp_path).start(others, EXAMPLES)
    for damaged in ('{"cat": 0}', "[1, 2]", "[", ""):
        (tmp_path / "class_names.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"class_names\.json (cannot|does not)"):
            run_folder.read_class_names(tmp_path)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"train": 9, "validation": 2}, "on 8 training images, but the data set has 9 now"),
        ({"train": 8, "validation": 3}, "on 2 validation images, but the data set has 3 now"),
        ({"train": 8}, "on 2 validation images, but the data set has 0 now"),
    ],
)
def test_a_run_whose_data_set_has_another_number_of_images_now_is_refused(now, message, tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        folder(tmp_path).start(CLASSES, now)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    folder(tmp_path).start(CLASSES, EXAMPLES | {"test": 5})  # which changes no step


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read"), ("[]", "does not hold numbers of images")]
)
def test_a_damaged_file_of_numbers_is_named(text, message, tmp_path):
    folder(tmp_path).start(CLASSES, EXAMPLES)
    (tmp_path / "examples.json").write_text(text)
    with pytest.raises(ValueError, match=rf"examples\.json {message}"):
        folder(tmp_path).start(CLASSES, EXAMPLES)


def test_a_complete_run_has_a_model_and_a_result(tmp_path):
    made = folder(tmp_path)
    made.start(CLASSES, EXAMPLES)
    made.write_model(model())
    assert not folder(tmp_path).complete
    made.write_result({"loss": float("nan"), "test": {"loss": 0.5}})
    assert folder(tmp_path).complete
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "loss": None,
        "test": {"loss": 0.5},
    }
    assert keras.saving.load_model(tmp_path / "model.keras").output_shape == (None, 1)


def test_a_full_disk_leaves_no_model_and_no_result(tmp_path, monkeypatch):
    def save(self, path):
        path.write_bytes(b"half of a model")
        raise OSError("no space left")

    made = folder(tmp_path)
    made.start(CLASSES, EXAMPLES)
    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match="no space"):
        made.write_model(model())
    assert not (tmp_path / "model.keras").exists()
    assert not folder(tmp_path).complete


def test_a_folder_that_forbids_writing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.os, "access", lambda path, mode: path != tmp_path)  # for root
    with pytest.raises(ValueError, match="cannot be written"):
        folder(tmp_path / "run")


def test_runs_that_start_in_the_same_second_get_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder(mnist, CONFIG), RunFolder(mnist, CONFIG)
    first.start(CLASSES, EXAMPLES)
    second.start(CLASSES, EXAMPLES)
    assert first.path.parts[0] == "runs"
    assert first.path.name.startswith("mnist-digits-")
    assert first.path != second.path
