"""A short run of the benchmark of input pipelines."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
def test_every_contestant_has_a_row_and_the_line_is_json():
    results = ROOT / "benchmarks" / "results" / "input.jsonl"
    before = results.read_bytes() if results.exists() else None
    command = [sys.executable, ROOT / "benchmarks" / "input.py", "--smoke", "--rounds", "2"]
    done = subprocess.run(
        [*command, "--files", "256", "256 raw"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["benchmark"] == "input"
    contestants = [(row["files"], row["contestant"]) for row in record["rows"]]
    assert [files for files, _ in contestants] == ["256"] * 7 + ["256 raw"]
    assert {"keras_elu", "tf.data", "PyTorch DataLoader"} <= {name for _, name in contestants}
    for row in record["rows"]:
        assert f"{row['files']:<9}{row['contestant']}" in done.stdout
        assert len(row["core seconds"]) == len(row["seconds"]) == 2
        assert 0 < min(row["core seconds"]) < 0.1
        assert row["memory"] > 1e7
    assert before == (results.read_bytes() if results.exists() else None)
