"""The benchmark of steps: its networks, their operations, and a short run of every table."""

import importlib
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "steps.py"

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def steps():
    """The script and the modules next to it, imported as Python does for a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return importlib.import_module("steps")


def operations(layers):
    """Forward, and twice that backward, except for the inputs of the first layer."""
    return 6 * sum(layers) - 2 * layers[0]


def test_operations_are_those_worked_out_by_hand(steps):
    # Multiplications for an image: height x width x kernel x kernel x inputs x outputs.
    cifar = [
        32 * 32 * 5 * 5 * 3 * 192,
        16 * 16 * 192 * 192,
        16 * 16 * 9 * 192 * 240,
        8 * 8 * 240 * 240,
        8 * 8 * 4 * 240 * 260,
        4 * 4 * 260 * 260,
        4 * 4 * 4 * 260 * 280,
        2 * 2 * 280 * 280,
        2 * 2 * 4 * 280 * 300,
        300 * 300,
        300 * 100,
    ]
    assert steps.plan("cifar")[1] == operations(cifar)
    mlp = [784 * 128, *[128 * 128] * 7, 128 * 10]
    assert steps.plan("mlp")[1] == operations(mlp)


def test_pytorch_is_given_the_same_network(steps):
    torch = pytest.importorskip("torch")
    layers, _ = steps.plan("cifar")
    model = torch.nn.Sequential(*map(sys.modules["steps_contestants"].module, layers))
    assert sum(p.numel() for p in model.parameters()) == 1_669_028
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


@pytest.mark.slow
@pytest.mark.multiworker
@pytest.mark.parametrize(("table", "network"), [("mlp", "mlp"), ("scaling", "cifar")])
def test_every_contestant_has_a_row_and_the_line_is_json(steps, table, network):
    results = steps.RESULTS.read_bytes() if steps.RESULTS.exists() else None
    command = [sys.executable, SCRIPT, "--smoke", "--rounds", "2", "--tables", table]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert (record["benchmark"], record["table"]) == ("steps", table)
    expected = list(steps.contestants()[table, network, "float32"])
    assert [row["contestant"] for row in record["rows"]] == expected
    for row in record["rows"]:
        assert any(line.startswith(row["contestant"] + " ") for line in done.stdout.splitlines())
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert row["peak memory"] > 1e8
    assert results == (steps.RESULTS.read_bytes() if steps.RESULTS.exists() else None)
