"""What tests of GPUs share; tests/conftest.py says on which devices they run."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def kind():
    """GPU; CPU where the tests themselves are tested."""
    return "GPU" if os.environ.get("KERAS_ELU_TEST_DEVICES") == "gpu" else "CPU"


@pytest.fixture(scope="session")
def cards(kind):
    """The number of GPUs; where there are none, that of logical CPU devices in their place."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU")) if kind == "GPU" else 2


@pytest.fixture(scope="session")
def replicas(cards):
    """The flags that give a trainer several replicas."""
    return ["--strategy", "mirrored", *(["--virtual_devices", "2"] if cards == 1 else [])]


@pytest.fixture(scope="session")
def environment(kind, data_dir):
    """The environment of processes on these devices."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(data_dir),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # this process holds memory too
    }


@pytest.fixture(scope="session")
def run(environment):
    """Runs Python with these arguments and returns its output."""

    def run(*arguments, cwd, code=0, **variables):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=environment | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return run
