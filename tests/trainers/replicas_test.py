"""The trainers on one replica, on two, and on two workers, one of which is killed."""

import csv
import os
import re
import signal

import pytest

from tests.processes import children
from tests.trainers.run_files import FILES

MIRRORED = ("--strategy", "mirrored", "--virtual_devices", 2)
RUNS = {
    "mnist": ("--epochs", 3, "--batch_size", 50),
    # Its dropout: two replicas draw the masks of two micro-batches.
    "cifar": ("--epochs", 2, "--steps_per_epoch", 2, "--batch_size", 8),
}
ON_ONE = {"mnist": (), "cifar": ("--micro_batches", 2)}


def curves(folder):
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    of_time = ("images_per_second", "seconds")
    return [[float(value) for name, value in row.items() if name not in of_time] for row in rows]


def assert_same_curves(folder, other):
    for one, two in zip(curves(folder), curves(other), strict=True):
        assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.slow
@pytest.mark.multiworker
@pytest.mark.parametrize("name", RUNS)
def test_two_replicas_and_two_workers_give_the_curves_of_one_replica(
    name, trainer, launch, tmp_path
):
    one = trainer(name, *RUNS[name], *ON_ONE[name], "--run_dir", "one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = trainer(name, *RUNS[name], *MIRRORED, "--run_dir", "two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    workers = launch(name, *RUNS[name], "--run_dir", "workers", cwd=tmp_path)
    output, _ = workers.communicate()
    assert workers.returncode == 0, output
    assert "[0] epoch 2/" in output
    assert "[1] epoch" not in output
    for folder in ("two", "workers"):
        assert_same_curves(tmp_path / folder, tmp_path / "one")
        assert {path.name for path in (tmp_path / folder).iterdir()} == FILES


@pytest.mark.slow
@pytest.mark.multiworker
@pytest.mark.parametrize(
    ("victim", "fault", "said"),
    [
        (0, signal.SIGKILL, "launch: worker 0 was killed by SIGKILL: restarting all workers"),
        (1, signal.SIGSTOP, r"error: worker 1 \(localhost:\d+\) no longer answers: rerun"),
    ],
    ids=["killed", "stalled"],
)
def test_a_run_resumes_after_a_worker_failed(victim, fault, said, launch, trainer, tmp_path):
    flags = ("--epochs", 8, "--batch_size", 50, "--checkpoint_every", 10, "--run_dir")
    process = launch("mnist", *flags, "killed", cwd=tmp_path)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "epoch 3/8" in line and "resuming" not in "".join(lines):
            os.kill(children(process.pid, b"mnist.py")[victim], fault)
    output = "".join(lines)
    assert process.wait() == 0, output
    assert re.search(said, output), output
    assert "[0] resuming after step " in output
    undisturbed = trainer("mnist", *flags, "undisturbed", *MIRRORED, cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert_same_curves(tmp_path / "killed", tmp_path / "undisturbed")
    assert {path.name for path in (tmp_path / "killed").iterdir()} == FILES
