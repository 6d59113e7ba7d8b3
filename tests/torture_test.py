"""A few runs of tests/torture.py, which are disturbed at random and end equal."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "runs"), [("one", 2), ("two", 1)])
def test_disturbed_runs_end_equal(kind, runs, tmp_path):
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.torture", "--faults", "all", "--results", results]
    done = subprocess.run(
        [*command, "--kind", kind, "--runs", str(runs)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(results.read_text())
    assert (summary["kind"], summary["runs"], summary["equal"]) == (kind, runs, runs)
    assert summary["starts"] >= runs
