"""Real signals, a disk that is really full, and two processes that want the same folder."""

import contextlib
import csv
import os
import re
import signal
import subprocess

import pytest
from tensorboard.backend.event_processing import event_accumulator

from tests.trainers.run_files import FILES

LONG = ("--dataset", "digits", "--epochs", 200, "--steps_per_epoch", 10, "--run_dir", "run")


def until(process, text):
    """Returns the output of a process up to the line that contains the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it ended with {process.wait()}: {''.join(lines)}")


def losses(folder):
    with (folder / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_saves_on_a_stop_signal_and_the_same_command_completes_it(start, tmp_path):
    flags = ("--dataset", "digits", "--epochs", 40, "--steps_per_epoch", 10, "--run_dir", "run")
    step = 0
    for number, epoch in ((signal.SIGTERM, 10), (signal.SIGINT, 25)):
        process = start("mnist", *flags, cwd=tmp_path)
        output = until(process, f"epoch {epoch}/40")
        assert not step or resuming(step) in output
        process.send_signal(number)
        output, _ = process.communicate()
        assert process.returncode == 75
        assert f"{number.name}: stopping after this step\n" in output
        (step,) = map(int, re.findall(r"Stopped and saved after step (\d+)\.", output))
        assert 10 * epoch <= step < 400
        assert "Traceback" not in output
    again = start("mnist", *flags, cwd=tmp_path)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert resuming(step) in output
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert len(losses(tmp_path / "run")) == 40


def resuming(step):
    return f"resuming after step {step % 10} of 10 in epoch {step // 10 + 1}"


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once_and_keeps_its_checkpoint(start, tmp_path):
    flags = ("--dataset", "digits", "--steps_per_epoch", 200_000, "--checkpoint_every", 1)
    endless = ("--steps_per_execution", 100_000, "--run_dir", "run")
    process = start("mnist", *flags, "--run_dir", "run", cwd=tmp_path)
    until(process, "mnist on digits")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75
    checkpoints = tmp_path / "run" / "checkpoints"
    held = {path: path.read_bytes() for path in checkpoints.glob("step-*")}
    assert held
    process = start("mnist", *flags, *endless, cwd=tmp_path)
    until(process, "resuming")
    process.send_signal(signal.SIGTERM)
    until(process, "SIGTERM: stopping after this step")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM again: stopped at once" in output
    assert {path: path.read_bytes() for path in checkpoints.glob("step-*")} == held


@contextlib.contextmanager
def disk(folder, size):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_run_continues_while_the_disk_is_full(start, tmp_path):
    folder = tmp_path / "run"
    with disk(folder, "8m"):
        flags = ("--dataset", "digits", "--epochs", 120, "--checkpoint_every", 5)
        process = start("mnist", *flags, "--run_dir", "run", cwd=tmp_path)
        until(process, "epoch   3/120")
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        held = {path.name for path in (folder / "checkpoints").glob("step-*")}
        said = until(process, "epoch  30/120")
        for what in (r"checkpoint of step \d+", r"history\.csv", "events for TensorBoard"):
            assert len(re.findall(f"{what} could not be written \\(No space left", said)) == 1
        assert {path.name for path in (folder / "checkpoints").glob("step-*")} == held
        (folder / "filler").unlink()
        output, _ = process.communicate()
        assert re.search(r"checkpoints are written again, from step \d+", output)
        assert process.returncode == 0, output
        assert len(losses(folder)) == 120
        events = event_accumulator.EventAccumulator(f"{folder}/tensorboard/train", {"tensors": 0})
        steps = [event.step for event in events.Reload().Tensors("epoch_loss")]
        assert steps == [19 * epoch for epoch in range(1, 121)]
        assert {path.name for path in folder.iterdir()} == FILES


@pytest.mark.slow
def test_a_run_without_room_for_its_result_fails_and_completes_later(start, tmp_path):
    folder = tmp_path / "run"
    with disk(folder, "8m"):
        flags = ("--dataset", "digits", "--epochs", 12, "--run_dir", "run")
        process = start("mnist", *flags, cwd=tmp_path)
        until(process, "epoch  2/12")
        free = os.statvfs(folder).f_bavail * 4096
        (folder / "filler").write_bytes(b"\0" * (free - 200_000))
        output, _ = process.communicate()
        assert process.returncode == 1, output
        assert "error: " in output.splitlines()[-1]
        assert "No space left on device" in output.splitlines()[-1]
        assert "Traceback" not in output
        assert not (folder / "result.json").exists()
        assert not (folder / "model.keras").exists()
        (folder / "filler").unlink()
        again = start("mnist", *flags, cwd=tmp_path)
        output, _ = again.communicate()
        assert again.returncode == 0, output


@pytest.mark.slow
def test_a_folder_in_use_is_refused_until_its_process_ends(start, trainer, tmp_path):
    first = start("mnist", *LONG, cwd=tmp_path)
    until(first, "epoch   1/200")
    second = trainer("mnist", *LONG, cwd=tmp_path)
    assert second.returncode == 2
    assert f"--run_dir run is in use by process {first.pid} on " in second.stderr
    assert second.stdout == ""
    first.kill()
    first.communicate()
    taken_over = start("mnist", *LONG, cwd=tmp_path)
    until(taken_over, "epoch")
    taken_over.kill()
    taken_over.communicate()


@pytest.mark.slow
def test_a_run_that_cannot_recover_reports_every_attempt(trainer, tmp_path):
    flags = ("--dataset", "digits", "--learning_rate", 1e9, "--recover", 2, "--run_dir", "run")
    done = trainer("mnist", *flags, cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "is not finite" in line]
    assert [line.count("Returning to step 0 of") for line in lines] == [1, 1, 0]
    assert [line.endswith("attempts left: 1") for line in lines] == [True, False, False]
    assert lines[-1].endswith("is not finite. Lower --learning_rate.")
    assert "Traceback" not in done.stderr
