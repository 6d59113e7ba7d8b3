"""The same command gives the same bits in two processes, on one replica and on two."""

import csv

import keras
import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
SHORT = ("--dataset", "digits", "--epochs", 1, "--steps_per_epoch", 4, "--batch_size", 16)
REPLICAS = {1: (), 2: ("--strategy", "mirrored", "--virtual_devices", 2)}
TIMES = ("images_per_second", "seconds")


@pytest.mark.parametrize("replicas", REPLICAS)
@pytest.mark.parametrize("deterministic", [(), ("--deterministic",)], ids=["", "deterministic"])
def test_a_repeated_command_gives_the_same_bits(replicas, deterministic, trainer, tmp_path):
    found = []
    for name in ("first", "second"):
        flags = (*SHORT, *REPLICAS[replicas], *deterministic, "--run_dir", name)
        done = trainer("mnist", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "UserWarning" not in done.stderr  # as of XLA, which Keras refuses
        with (tmp_path / name / "history.csv").open() as file:
            rows = [
                {k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)
            ]
        model = keras.saving.load_model(tmp_path / name / "model.keras")
        variables = (*model.weights, *model.optimizer.variables)
        found.append((rows, [keras.ops.convert_to_numpy(v).tobytes() for v in variables]))
    assert found[0] == found[1]
    environment = (tmp_path / "first" / "environment.json").read_text()
    assert f'"deterministic": {"true" if deterministic else "false"}' in environment
