"""The tests of this folder again, on the other backends, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent
NAMES = ("activations", "diagnostics", "elu", "exactness", "parametric")
FILES = [FOLDER / f"{name}_test.py" for name in NAMES]


@pytest.mark.tensorflow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_layers_pass_their_tests_on(backend):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *map(str, FILES)],
        cwd=FOLDER.parents[1],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
