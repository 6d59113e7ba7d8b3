"""`make gpu` where there is no GPU."""

import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_without_a_gpu_it_says_so_in_one_sentence_and_exits_with_2(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"PATH": str(tmp_path)},  # where there is no nvidia-smi
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
