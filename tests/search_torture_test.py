"""A search of each kind of tests/search_torture.py, of which processes are killed."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.tensorflow


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("alone", 0), ("machines", 0)])
def test_a_search_whose_processes_are_killed_loses_no_trial(kind, seed, tmp_path):
    results = tmp_path / "results.json"
    flags = ["--kind", kind, "--searches", "1", "--trials", "2", "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.search_torture", *flags, "--results", results]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(results.read_text())
    assert summary["complete"] == 1
    assert any(key.startswith("kills of a") and count for key, count in summary.items())
