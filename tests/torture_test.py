"""A few runs of tests/torture.py, which are disturbed at random and end equal."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "runs"), [("two", 1)])
def test_disturbed_runs_end_equal(kind, runs, tmp_path):
    results = tmp_path / "results.json"
    # Of seed 34 a run is stopped, and another one killed and its newest checkpoint cut short.
    flags = ["--kind", kind, "--runs", str(runs), "--faults", "all", "--seed", "34", "--jobs", "2"]
    command = [sys.executable, "-m", "tests.torture", *flags, "--results", results]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(results.read_text())
    assert (summary["kind"], summary["runs"], summary["equal"]) == (kind, runs, runs)
    assert summary["starts"] >= runs
