"""All cells of strategy x precision x XLA x micro-batches x steps per execution, on GPUs."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [pytest.mark.gpu, pytest.mark.tensorflow]

# Strategies, devices, and how many GPUs they need.
SETTINGS = {
    "one GPU": (["default"], "gpus", 1),
    "two logical GPUs of one card": (["mirrored"], "split", 1),
    "all GPUs": (["mirrored"], "gpus", 2),
    "a worker on each of two GPUs": (["multiworker"], "gpus", 2),
}


@pytest.mark.parametrize(("strategies", "devices", "needed"), SETTINGS.values(), ids=SETTINGS)
def test_every_cell_trains_as_plain_keras_on_one_replica(
    strategies, devices, needed, kind, cards, run, tmp_path
):
    if kind == "CPU" and devices != "split":
        pytest.skip("tests/distributed/model_test.py runs these cells on CPU devices")
    if cards < needed:
        pytest.skip(f"needs {needed} GPUs")
    script = ROOT / "benchmarks" / "combinations.py"
    flags = ["--devices", devices, "--strategies", *strategies, "--results", tmp_path]
    run(script, *flags, cwd=tmp_path)
    rows = json.loads((tmp_path / "combinations_distributed.json").read_text())
    assert len(rows) == 24
    assert all(row["holds"] for row in rows)
