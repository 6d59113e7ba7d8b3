"""Several processes on this machine: their output, their deaths, and what is left of them."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# By its path, as `python -m` imports the package, and with it TensorFlow, before.
LAUNCH = [sys.executable, str(ROOT / "keras_elu" / "launch.py")]
HEAD = """
import json, os, pathlib, signal, subprocess, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
index, here = task["index"], pathlib.Path(__file__).parent
attempt = len(list(here.glob(f"attempt-{index}-*")))
(here / f"attempt-{index}-{attempt}-{os.getpid()}").write_text(os.environ["TF_CONFIG"])
"""


@pytest.fixture
def launch(tmp_path):
    """Starts workers that run the given code, and returns the process."""
    started = []

    def start(code, *flags, workers=2, restarts=3, **environment):
        script = tmp_path / "trainer.py"
        script.write_text(HEAD + textwrap.dedent(code))
        numbers = ["--workers", str(workers), "--restarts", str(restarts)]
        started.append(
            subprocess.Popen(
                [*LAUNCH, *numbers, str(script), *flags],
                cwd=tmp_path,
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="surrogateescape",
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    assert not [pid for pid in pids(tmp_path) if alive(pid)]


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out.splitlines(), err.splitlines()


def pids(folder):
    return [int(path.name.rpartition("-")[2]) for path in folder.glob("attempt-*")]


def attempts(folder, index):
    return len(list(folder.glob(f"attempt-{index}-*")))


def alive(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_for(paths):
    deadline = time.monotonic() + 20
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_worker_is_told_of_the_others_and_of_its_share_of_the_cores(launch, tmp_path):
    code = "print(json.dumps([os.environ['TF_CONFIG'], os.environ['TF_NUM_INTRAOP_THREADS']]))"
    status, out, err = end(launch(code, workers=3))
    assert (status, err) == (0, [])
    told = {}
    for line in out:
        config, threads = json.loads(line[4:])
        told[int(line[1])] = json.loads(config)
        assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 3)
    assert [told[index]["task"] for index in range(3)] == [
        {"type": "worker", "index": index} for index in range(3)
    ]
    (workers,) = {tuple(config["cluster"]["worker"]) for config in told.values()}
    assert len(set(workers)) == 3
    assert all(re.fullmatch(r"localhost:\d+", worker) for worker in workers)


def test_threads_that_the_environment_sets_stay(launch):
    _, out, _ = end(
        launch("print(os.environ['TF_NUM_INTRAOP_THREADS'])", TF_NUM_INTRAOP_THREADS="7")
    )
    assert sorted(out) == ["[0] 7", "[1] 7"]


FLAGS = {
    "none": ((), r"--strategy multiworker --run_dir runs/trainer-\d{8}-\d{6}"),
    "a strategy": (
        ("--strategy=multiworker", "--restarts", "x"),
        r"--strategy=multiworker --restarts x --run_dir runs/trainer-\d{8}-\d{6}",
    ),
    "a folder": (("--run-dir=a",), "--run-dir=a --strategy multiworker"),
}


@pytest.mark.parametrize(("flags", "expected"), FLAGS.values(), ids=FLAGS)
def test_the_flags_are_completed_alike_for_all_workers(flags, expected, launch):
    status, out, _ = end(launch("print(*sys.argv[1:])", *flags))
    assert status == 0
    (line,) = {line[4:] for line in out}
    assert re.fullmatch(expected, line)


BAD = {
    "no workers": (["trainers/mnist.py"], "--workers"),
    "no script": (["--workers", "2"], "script"),
    "zero workers": (["--workers", "0", "trainers/mnist.py"], "not 0"),
    "no number": (["--workers", "two", "trainers/mnist.py"], "'two'"),
    "negative restarts": (["--workers", "2", "--restarts", "-1", "trainers/mnist.py"], "not -1"),
    "an absent script": (["--workers", "2", "trainers/none.py"], "trainers/none.py is not a file"),
    "an unknown flag": (["--workers", "2", "--bogus", "trainers/mnist.py"], "--bogus"),
    "a strategy without workers": (
        ["--workers", "2", "trainers/mnist.py", "--strategy", "mirrored"],
        "--strategy mirrored",
    ),
}


@pytest.mark.parametrize(("arguments", "part"), BAD.values(), ids=BAD)
def test_a_wrong_command_ends_with_one_sentence_and_exit_code_2(arguments, part):
    done = subprocess.run([*LAUNCH, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    assert part in line


def test_output_is_joined_line_by_line_without_a_loss(launch):
    """200 long lines of three workers on both streams, in pieces, and bytes that are no text."""
    code = """
        for number in range(200):
            for stream in (sys.stdout, sys.stderr):
                line = f"{stream.name} {number} {str(index) * 20000}"
                for start in range(0, len(line), 7001):
                    stream.buffer.write(line[start : start + 7001].encode())
                    stream.flush()
                stream.buffer.write(b"\\n")
        sys.stdout.buffer.write(b"\\xff\\xc3\\xa9 without an end")
    """
    status, out, err = end(launch(code, workers=3))
    assert status == 0
    for name, lines, last in (("out", out, ["\udcffé without an end"]), ("err", err, [])):
        for index in range(3):
            own = [line[4:] for line in lines if line.startswith(f"[{index}] ")]
            long = [f"<std{name}> {number} {str(index) * 20000}" for number in range(200)]
            assert own == long + last
        assert len(lines) == 3 * (200 + len(last))


def test_a_progress_bar_is_shown_while_it_grows(launch):
    code = """
        for percent in (10, 20, 30):
            sys.stderr.write(f"\\r{percent}%")
            sys.stderr.flush()
        time.sleep(60)
    """
    process = launch(code, workers=1)
    assert [process.stderr.readline() for _ in range(3)] == ["[0] \n", "[0] 10%\n", "[0] 20%\n"]
    process.terminate()
    assert end(process)[0] == 128 + signal.SIGTERM


def test_a_worker_that_ends_well_leaves_the_others_alone(launch):
    status, out, _ = end(launch("time.sleep(index); print('done')"))
    assert (status, out) == (0, ["[0] done", "[1] done"])


KILLED = """
child = subprocess.Popen(["sleep", "1000"])
(here / f"attempt-child{index}-{attempt}-{child.pid}").touch()
if attempt == 0:
    if index == 1:
        while not list(here.glob("ready-0")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as TensorFlow's strategy does
    (here / "ready-0").touch()
    time.sleep(1000)
print("trained in", sys.argv[-1])
"""


def test_a_killed_worker_stops_the_rest_and_all_start_again_in_the_same_folder(launch, tmp_path):
    start = time.monotonic()
    status, out, err = end(launch(KILLED))
    assert status == 0
    assert 5 < time.monotonic() - start < 15
    assert err == ["launch: worker 1 was killed by SIGKILL: all start again, 1 of at most 3 times."]
    assert sorted(line[:14] for line in out) == ["[0] trained in", "[1] trained in"]
    assert len({line[4:] for line in out}) == 1
    assert attempts(tmp_path, 0) == attempts(tmp_path, 1) == 2
    configs = [path.read_text() for path in tmp_path.glob("attempt-0-*")]
    ports = [set(json.loads(text)["cluster"]["worker"]) for text in configs]
    assert ports[0] != ports[1]


@pytest.mark.parametrize(
    ("death", "code", "how"),
    [
        ("sys.exit(7)", 7, "ended with 7"),
        ("os.kill(os.getpid(), 6)", 128 + 6, "was killed by SIGABRT"),
    ],
)
def test_a_worker_that_dies_again_and_again_gives_the_exit_code(death, code, how, launch, tmp_path):
    status, _, err = end(launch(f"if index: {death}\ntime.sleep(1000)", restarts=2))
    assert status == code
    assert [line for line in err if line.startswith("launch: ")] == [
        f"launch: worker 1 {how}: {then}."
        for then in (
            "all start again, 1 of at most 2 times",
            "all start again, 2 of at most 2 times",
            "that was the last attempt",
        )
    ]
    assert attempts(tmp_path, 1) == 3


def test_a_wrong_command_line_of_the_trainer_is_not_tried_again(launch, tmp_path):
    code = """
        if index == 0:
            sys.exit(print("error: --alpha is wrong.", file=sys.stderr) or 2)
        time.sleep(1000)
    """
    assert end(launch(code)) == (2, [], ["[0] error: --alpha is wrong."])
    assert attempts(tmp_path, 0) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_worker_and_nothing_starts_again(number, launch, tmp_path):
    code = """
        def save(number, frame):
            print("saved after", number)
            sys.exit(3)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, save)
        (here / f"ready-{index}").touch()
        time.sleep(1000)
    """
    process = launch(code)
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    process.send_signal(number)
    status, out, err = end(process)
    assert (status, err) == (128 + number, [])
    assert sorted(out) == [f"[0] saved after {number:d}", f"[1] saved after {number:d}"]


def test_a_second_signal_ends_workers_that_do_not_listen_at_once(launch, tmp_path):
    code = """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        (here / f"ready-{index}").touch()
        time.sleep(1000)
    """
    process = launch(code)
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    start = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert end(process)[0] == 128 + signal.SIGINT
    assert time.monotonic() - start < 5


def test_a_reader_that_goes_away_ends_all(launch):
    process = launch("while True: print('x' * 1000)")
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=30)
    process.stderr.close()
    assert process.returncode != 0


REDUCES = """
import tensorflow as tf
from keras_elu.distributed import cluster

with cluster.bounded_wait(cluster.read(), 60):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
context = tf.distribute.get_replica_context

@tf.function
def total():
    return strategy.run(lambda: context().all_reduce("sum", tf.fill((3,), index + 1.0)))

print("total", total().numpy().tolist())
if attempt == 0:
    while index == 0:
        total()  # until worker 1 dies
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.multiworker
@pytest.mark.slow
@pytest.mark.tensorflow
def test_two_workers_add_their_numbers_and_again_after_one_was_killed(launch):
    status, out, err = end(launch(REDUCES, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="-1"))
    assert status == 0, "\n".join(err)
    totals = [line for line in out if "total" in line]
    assert set(totals) == {"[0] total [3.0, 3.0, 3.0]", "[1] total [3.0, 3.0, 3.0]"}
    assert len(totals) >= 3  # of the first attempt, that of the survivor may be lost
    assert sum("all start again" in line for line in err) == 1


def test_it_is_a_module_of_the_package_and_needs_no_tensorflow():
    help = [sys.executable, "-m", "keras_elu.launch", "--help"]
    done = subprocess.run(help, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--workers N" in done.stdout
    code = "import sys, runpy; runpy.run_path(sys.argv[1]); print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, LAUNCH[1]], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
