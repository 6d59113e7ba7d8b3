import os
import pathlib
import subprocess
import sys

import pytest

from keras_elu import data

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def trainer(tmp_path_factory):
    """Runs a trainer in a process of its own and returns the process, completed."""
    folder = tmp_path_factory.mktemp("data")
    data.load("digits", data_dir=folder)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(folder),
        "CUDA_VISIBLE_DEVICES": "-1",
    }

    def run(name, *flags, cwd):
        command = [sys.executable, str(ROOT / "trainers" / f"{name}.py"), *map(str, flags)]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)

    return run
