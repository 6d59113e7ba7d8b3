"""The commands on GPUs: resuming, a profile, the audit, the doctor, and a pair of workers."""

import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.tensorflow]

ROOT = pathlib.Path(__file__).parents[2]
TRAINER = ROOT / "trainers" / "mnist.py"
DATA = ["--dataset", "digits", "--seed", "3"]
LENGTH = ["--epochs", "30", "--steps_per_epoch", "20"]


def killed_and_resumed(command, environment, folder):
    """Kills a run after its first checkpoint, and repeats the command."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    while not list((folder / "run" / "checkpoints").glob("step-*")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("flags", [[], ["--deterministic"]], ids=["to rounding", "in every bit"])
def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(
    flags, replicas, environment, run, tmp_path
):
    command = [str(TRAINER), *DATA, *LENGTH, *replicas, *flags]
    command += ["--checkpoint_every", "7", "--run_dir", "run"]
    ends = {}
    for name in ("undisturbed", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "killed":
            killed_and_resumed([sys.executable, *command], environment, folder)
        else:
            run(*command, cwd=folder)
        model = keras.models.load_model(folder / "run" / "model.keras")
        ends[name] = np.concatenate([weight.ravel() for weight in model.get_weights()])
    if flags:
        assert ends["killed"].tobytes() == ends["undisturbed"].tobytes()
    else:
        np.testing.assert_allclose(ends["killed"], ends["undisturbed"], rtol=0, atol=1e-3)


def test_a_profile_shows_the_lane_of_the_device(kind, run, tmp_path):
    flags = ["--epochs", "1", "--steps_per_epoch", "8", "--profile", "4:6", "--run_dir", "run"]
    run(TRAINER, *DATA, *flags, cwd=tmp_path)
    (profile,) = (tmp_path / "run" / "tensorboard").rglob("*.xplane.pb")
    lane = b"/device:GPU:0" if kind == "GPU" else b"/host:CPU"
    assert lane in profile.read_bytes()


def test_the_audit_finds_every_check_ok(cards, replicas, run, tmp_path):
    flags = [*DATA, *replicas, "--batch_size", 16 * max(2, cards)]
    said = run("-m", "keras_elu.audit", TRAINER, *flags, cwd=tmp_path)
    assert "NOT OK" not in said
    assert "weights over the replicas" in said


def test_the_doctor_names_the_bottleneck(run, tmp_path):
    said = run("-m", "keras_elu.doctor", TRAINER, *DATA, cwd=tmp_path)
    assert "Bottleneck: " in said


def test_two_workers_on_one_machine_have_a_gpu_each(kind, cards, run, tmp_path):
    command = ["-m", "keras_elu.launch", "--workers", "2", "--restarts", "0", TRAINER]
    flags = [*DATA, "--epochs", "1", "--steps_per_epoch", "4", "--run_dir", "run"]
    if cards < 2:
        assert "needs as many GPUs" in run(*command, *flags, cwd=tmp_path, code=2)
        return
    run(*command, *flags, cwd=tmp_path)
    assert (tmp_path / "run" / "model.keras").exists()
