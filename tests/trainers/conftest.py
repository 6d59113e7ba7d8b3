import functools
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def environment(data_dir):
    """The environment of a trainer: the digits are prepared, and no accelerator is visible."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(data_dir),
        "CUDA_VISIBLE_DEVICES": "-1",
    }


@pytest.fixture(scope="session")
def trainer(environment):
    """Runs a trainer and returns the completed process."""

    def run(name, *flags, cwd):
        command = [sys.executable, str(ROOT / "trainers" / f"{name}.py"), *map(str, flags)]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def start(environment):
    """Starts a trainer and returns the process, with stderr in its stdout."""

    def start(name, *flags, cwd, launcher=()):
        command = [sys.executable, *launcher, str(ROOT / "trainers" / f"{name}.py")]
        return subprocess.Popen(
            [*command, *map(str, flags)],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def launch(start):
    """Starts a trainer on two workers and returns the process."""
    return functools.partial(start, launcher=("-m", "keras_elu.launch", "--workers", "2"))
