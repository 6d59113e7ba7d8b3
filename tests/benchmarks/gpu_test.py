"""`make gpu`: without a GPU, the parts of its table, and all of it on CPU devices."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
NVIDIA_SMI = """#!/bin/sh
case "$*" in
    *--id=1*) echo "NVIDIA B" ;;
    *--id=-1*) echo "No devices were found"; exit 6 ;;
    *) printf "NVIDIA A\\nNVIDIA B\\n" ;;
esac
"""


@pytest.fixture(scope="module")
def gpu():
    """The script, imported as Python does for a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return importlib.import_module("gpu")


@pytest.mark.parametrize("flags", [[], ["--check"], ["--parts", "audit"]], ids=" ".join)
def test_without_a_gpu_it_says_so_in_one_sentence_and_exits_with_2(flags, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags],
        env=os.environ | {"PATH": str(tmp_path)},  # where there is no nvidia-smi
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize(
    ("visible", "found"),
    [(None, ["NVIDIA A", "NVIDIA B"]), ("1", ["NVIDIA B"]), ("", []), ("-1", [])],
)
def test_the_cards_are_those_that_the_process_may_use(gpu, visible, found, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu.cards() == found


@pytest.mark.parametrize("gpus", [1, 3, 8])
def test_every_gpu_takes_part_and_a_single_one_is_split(gpu, gpus, tmp_path):
    commands = gpu.commands(tmp_path, gpus, smoke=False)

    def flag(part, name):
        return commands[part][commands[part].index(f"--{name}") + 1]

    assert flag("audit", "strategy") == "mirrored"
    assert ("--virtual_devices" in commands["audit"]) == (gpus == 1)
    assert int(flag("audit", "batch_size")) % max(2, gpus) == 0  # which the audit needs
    assert flag("training", "strategy") == ("default" if gpus == 1 else "mirrored")
    assert int(flag("training", "batch_size")) == 256 * gpus
    assert not any("--smoke" in command for command in commands.values())


def test_the_parts_are_commands_that_the_trainers_accept(gpu, tmp_path):
    from keras_elu.recipes import imagenet_resnet, mnist
    from keras_elu.training import command_line

    recipes = {"trainers/imagenet_resnet.py": imagenet_resnet, "trainers/mnist.py": mnist}
    checked = set()
    for smoke in (False, True):
        for part, command in gpu.commands(tmp_path, 2, smoke).items():
            scripts = [word for word in command if word.endswith(".py")]
            assert all((ROOT / script).is_file() for script in scripts)
            for script in set(scripts) & set(recipes):
                flags = command[command.index(script) + 1 :]
                command_line.parse(recipes[script], flags)
                checked.add(part)
    assert checked == {"audit", "doctor", "training"}


def test_the_table_shows_what_holds_and_the_figures(gpu):
    rows = [
        {"part": "tests", "code": 1, "seconds": 61.4, "figures": {"passed": 9, "failed": 2}},
        {
            "part": "training",
            "code": 0,
            "seconds": 400,
            "figures": {"images_per_second": 2375.04, "share_of_peak": 0.1834, "memory": 31.26},
        },
    ]
    assert gpu.table(rows).splitlines() == [
        "                                    s  images/s   of peak       GiB",
        "tests     ended with 1             61                                9 passed, 2 failed",
        "training  holds                   400   2,375.0       18%      31.3",
    ]


def test_the_figures_of_a_run_are_the_medians_of_its_logs(gpu, tmp_path, monkeypatch):
    assert gpu.trained_figures(tmp_path) == {}
    (tmp_path / "history.csv").write_text("epoch,images_per_second\n0,nan\n1,300\n2,100\n3,110\n")
    logs = {"speed/device_memory_gib": [2.0, 3.0, 4.0]}
    monkeypatch.setattr(gpu, "logged", lambda folder, tag: logs.get(tag, []))
    assert gpu.trained_figures(tmp_path) == {"images_per_second": 110, "memory": 3.0}


STOPPED = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(CODE))
pathlib.Path("history.csv").touch()
while True:  # a signal just before a long sleep would wait for its end
    time.sleep(0.05)
"""


@pytest.mark.parametrize(("code", "verdict"), [(75, 0), (0, 0), (1, 1)])
def test_training_holds_if_the_stopped_run_was_saved(gpu, code, verdict, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    command = [sys.executable, "-c", STOPPED.replace("CODE", str(code))]
    assert gpu.train(command, tmp_path, seconds=0.1) == verdict


def test_a_run_that_fails_before_its_first_epoch_is_not_waited_for(gpu, tmp_path):
    assert gpu.train([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, seconds=300) == 3


@pytest.mark.slow
@pytest.mark.multiworker
def test_all_of_it_runs_on_cpu_devices():
    results = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in results.iterdir()}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke"], cwd=ROOT, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert (record["benchmark"], record["cards"]) == ("gpu", [])
    rows = {row["part"]: row for row in record["rows"]}
    assert list(rows) == ["tests", "audit", "doctor", "layers", "steps", "input", "training"]
    assert all(row["code"] == 0 and row["seconds"] > 0 for row in rows.values())
    assert rows["tests"]["figures"]["passed"] >= 8
    assert rows["tests"]["figures"]["failed"] == 0
    assert rows["training"]["figures"]["images_per_second"] > 0
    assert rows["training"]["figures"]["memory"] > 0.1
    assert before == {path: path.read_bytes() for path in results.iterdir()}
