"""Trainers in other people's environments: variables, Python's flags, closed streams, terminals."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ("--dataset", "digits", "--run_dir", "run")
SHORT = ("--epochs", "1", "--steps_per_epoch", "3")
LONG = ("--epochs", "4000", "--checkpoint_every", "50")
TWO = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}

# Variables, the shell's redirection, Python's flags, and then exit code and a part of stderr.
CASES = {
    "another backend": ({"KERAS_BACKEND": "jax"}, "", [], 2, "error: Training needs Keras's"),
    "Keras 2": ({"TF_USE_LEGACY_KERAS": "1"}, "", [], 0, ""),
    "no docstrings": ({}, "", ["-OO"], 0, ""),
    "a closed stderr": ({}, "2>&-", [], 0, ""),
    "closed streams": ({}, "<&- >&- 2>&-", [], 0, ""),
    "an unused cluster": ({"TF_CONFIG": json.dumps(TWO)}, "", [], 0, "warning: TF_CONFIG lists 2"),
    "a proxy": (
        {"http_proxy": "http://localhost:9", "ALL_PROXY": "http://localhost:9"},
        "",
        [],
        0,
        "",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "redirection", "python", "code", "part"), CASES.values(), ids=CASES
)
def test_a_trainer_works_or_says_in_one_sentence_why_not(
    variables, redirection, python, code, part, environment, tmp_path
):
    command = [sys.executable, *python, str(ROOT / "trainers" / "mnist.py"), *FLAGS, *SHORT]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=tmp_path,
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith(("error", "warning"))]
    assert len(own) == bool(part)
    assert "Traceback" not in done.stderr
    assert all(part in line for line in own)
    assert (tmp_path / "run" / "result.json").exists() == (code == 0)


COMMANDS = [
    *(["-m", f"keras_elu.{name}"] for name in ("audit", "doctor", "launch", "prepare", "report")),
    [str(ROOT / "trainers" / "mnist.py")],
    [str(ROOT / "tuning" / "mnist.py")],
]


@pytest.mark.slow
@pytest.mark.parametrize("python", [[], ["-OO"]], ids=["plain", "-OO"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1].split("/")[-1])
def test_a_command_whose_stderr_is_closed_ends_as_otherwise(command, python, environment, tmp_path):
    for flags, code, said in (["--help"], 0, True), (["--no_such_flag"], 2, False):
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, *python, *command, *flags],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode, bool(done.stdout)) == (code, said), done.stdout
        assert "Traceback" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def until(lines, part):
    """Reads lines until one has this part."""
    assert any(part in line for line in lines)


@pytest.mark.slow
def test_ctrl_c_behind_tee_saves_and_the_same_command_resumes(start, environment, tmp_path):
    """A terminal sends SIGINT to the trainer and to tee, which ends at once."""
    command = [sys.executable, str(ROOT / "trainers" / "mnist.py"), *FLAGS, *LONG]
    script = 'trap : INT; "$@" 2>&1 | tee log; exit ${PIPESTATUS[0]}'
    shell = subprocess.Popen(
        ["bash", "-c", script, "bash", *command],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(shell.stdout, "epoch    2/")
    os.killpg(shell.pid, signal.SIGINT)
    shell.communicate(timeout=60)
    assert shell.returncode == 75
    resumed = start("mnist", *FLAGS, *LONG, cwd=tmp_path)
    until(resumed.stdout, "after step")
    until(resumed.stdout, "epoch ")
    resumed.send_signal(signal.SIGHUP)  # a lost connection
    output, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 75, output
    assert "SIGHUP: stopping after this step" in output


@pytest.mark.slow
def test_a_pipe_that_is_read_only_at_first_stops_the_run_with_its_state_saved(start, tmp_path):
    process = start("mnist", *FLAGS, *LONG, cwd=tmp_path)
    until(process.stdout, "epoch ")
    process.stdout.close()
    assert process.wait(timeout=60) == 75
    assert list((tmp_path / "run" / "checkpoints").glob("step-*.npz"))
