"""The tests of the layers and of diagnostics again, on each other backend in its own process."""

import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parents[1]
NAMES = ("activations", "derivatives", "elu", "exactness", "export", "keras_own", "parametric")
FILES = [TESTS / "layers" / f"{name}_test.py" for name in NAMES]
ELU = [TESTS / "layers" / f"{name}_test.py" for name in ("elu", "keras_own")]
DIAGNOSTICS = [
    TESTS / "diagnostics" / f"{name}_test.py" for name in ("fisher", "saturation", "units")
]
PEERS = [TESTS / "layers" / "peers_test.py"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "files",
    [
        pytest.param(ELU, id="elu"),
        pytest.param(FILES, id="own", marks=pytest.mark.slow),
        pytest.param(DIAGNOSTICS, id="diagnostics", marks=pytest.mark.slow),
        pytest.param(PEERS, id="peers", marks=pytest.mark.slow),
    ],
)
def test_the_layers_pass_their_tests_on(backend, files):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *map(str, files)],
        cwd=TESTS.parent,
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
