"""`import keras_elu` is cheap, and enough to reach every public module."""

import os
import pathlib
import subprocess
import sys

import pytest

import keras_elu

ROOT = pathlib.Path(__file__).parents[1]
ADDED = """
import sys
import keras
before = set(sys.modules)
import keras_elu
print(*sorted(sys.modules.keys() - before))
"""
ON_FIRST_USE = """
import sys
import keras_elu
print("keras_elu.training" in sys.modules)
print(keras_elu.training.DistributedModel.__name__, keras_elu.training.Checkpoints.__name__)
print("keras_tuner" in sys.modules)
"""
LOG_LEVEL = "import os, keras_elu; print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))"


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """Returns the words that a script prints, without a log level from outside."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    def printed(code, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, path]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout.split()

    return printed


@pytest.mark.tensorflow
def test_importing_the_package_adds_only_what_registers_classes_with_keras(printed):
    added = printed(ADDED)
    names = ("initializers", "layers", "models", "optimizers", "schedules")
    rooms = tuple(f"keras_elu.{name}" for name in names)
    assert {"keras_elu", *rooms} <= set(added)
    assert [name for name in added if name != "keras_elu" and not name.startswith(rooms)] == []
    assert len(added) <= 40


@pytest.mark.tensorflow
def test_other_modules_are_imported_on_first_use(printed):
    names = ["DistributedModel", "Checkpoints"]
    assert printed(ON_FIRST_USE) == ["False", *names, "False"]


@pytest.mark.tensorflow
def test_every_public_name_is_listed_and_found():
    assert set(keras_elu.__all__) <= set(dir(keras_elu))
    assert all(getattr(keras_elu, name) for name in keras_elu.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trainings'"):
        keras_elu.trainings  # noqa: B018


@pytest.mark.tensorflow
@pytest.mark.parametrize(("name", "hidden"), [("trainers/mnist.py", True), ("other.py", False)])
def test_only_our_commands_hide_messages_of_tensorflow_below_errors(name, hidden, printed):
    (level,) = printed(LOG_LEVEL, name)
    assert (level == "2") == hidden  # JAX, where it is installed, sets 1
