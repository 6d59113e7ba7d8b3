"""`import keras_elu` is cheap."""

import subprocess
import sys

import pytest

CODE = """
import sys, time
import keras
before = set(sys.modules)
start = time.process_time()
import keras_elu
print(time.process_time() - start)
heavy = {"tensorflow_datasets", "sklearn", "matplotlib", "keras_tuner", "keras_elu.training"}
print(*sorted(heavy & (sys.modules.keys() - before)))
"""


@pytest.mark.tensorflow
def test_the_package_adds_at_most_50_ms_and_nothing_heavy_to_keras():
    def attempt():
        command = [sys.executable, "-c", CODE]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, heavy = done.stdout.split("\n")[:2]
        return float(seconds), heavy

    attempts = [attempt() for _ in range(2)]
    assert min(seconds for seconds, _ in attempts) < 0.05
    assert attempts[0][1] == ""
