"""Several workers on this machine: their output, their deaths, and what outlives them: nothing."""

import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.processes import alive, wait_until

ROOT = pathlib.Path(__file__).parents[1]
# As `python -m keras_elu.launch`, but without the package's own imports, which load TensorFlow.
ALONE = """
import runpy, sys, types
package = types.ModuleType("keras_elu")
package.__path__ = [sys.argv.pop(1)]
sys.modules["keras_elu"] = package
runpy.run_module("keras_elu.launch", run_name="__main__", alter_sys=True)
"""
LAUNCH = [sys.executable, "-c", ALONE, str(ROOT / "keras_elu")]
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

    def start(code, *flags, workers=2, restarts=3, prefix=(), **environment):
        script = tmp_path / "trainer.py"
        script.write_text(HEAD + textwrap.dedent(code))
        numbers = ["--workers", str(workers), "--restarts", str(restarts)]
        started.append(
            subprocess.Popen(
                [*prefix, *LAUNCH, *numbers, str(script), *flags],
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
    wait_until(lambda: not any(map(alive, pids(tmp_path))))


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out.splitlines(), err.splitlines()


def pids(folder):
    return [int(path.name.rpartition("-")[2]) for path in folder.glob("attempt-*")]


def attempts(folder, index):
    return len(list(folder.glob(f"attempt-{index}-*")))


def wait_for(paths):
    wait_until(lambda: all(path.exists() for path in paths))


def test_every_worker_receives_the_addresses_of_all_and_its_share_of_the_cores(launch, tmp_path):
    code = "print(json.dumps([os.environ['TF_CONFIG'], os.environ['TF_NUM_INTRAOP_THREADS']]))"
    status, out, err = end(launch(code, workers=3))
    assert (status, err) == (0, [])
    given = {}
    for line in out:
        config, threads = json.loads(line[4:])
        given[int(line[1])] = json.loads(config)
        assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 3)
    assert [given[index]["task"] for index in range(3)] == [
        {"type": "worker", "index": index} for index in range(3)
    ]
    (workers,) = {tuple(config["cluster"]["worker"]) for config in given.values()}
    assert len(set(workers)) == 3
    assert all(re.fullmatch(r"localhost:\d+", worker) for worker in workers)


def test_a_number_of_threads_in_the_environment_stays(launch):
    _, out, _ = end(
        launch("print(os.environ['TF_NUM_INTRAOP_THREADS'])", TF_NUM_INTRAOP_THREADS="7")
    )
    assert sorted(out) == ["[0] 7", "[1] 7"]


FLAGS = {
    "none": ((), r"--strategy multiworker --run_dir runs/trainer-\d{8}-\d{6}-\d{6}"),
    "a strategy": (
        ("--strategy=multiworker", "--restarts", "x"),
        r"--strategy=multiworker --restarts x --run_dir runs/trainer-\d{8}-\d{6}-\d{6}",
    ),
    "a folder": (("--run-dir=a",), "--run-dir=a --strategy multiworker"),
}


@pytest.mark.parametrize(("flags", "expected"), FLAGS.values(), ids=FLAGS)
def test_all_workers_receive_the_same_completed_flags(flags, expected, launch):
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
    """200 long lines of three workers on both streams, in pieces, and bytes that are not UTF-8."""
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


def test_a_killed_worker_stops_the_others_and_all_restart_in_the_same_folder(launch, tmp_path):
    status, out, err = end(launch(KILLED))
    assert status == 0
    assert err == [
        "launch: worker 1 was killed by SIGKILL: restarting all workers, 1 of at most 3 times."
    ]
    assert sorted(line[:14] for line in out) == ["[0] trained in", "[1] trained in"]
    assert len({line[4:] for line in out}) == 1
    assert attempts(tmp_path, 0) == attempts(tmp_path, 1) == 2
    configs = [path.read_text() for path in tmp_path.glob("attempt-0-*")]
    ports = [set(json.loads(text)["cluster"]["worker"]) for text in configs]
    assert ports[0] != ports[1]


CHECKPOINT = """
folder = pathlib.Path(sys.argv[-1], "checkpoints")
folder.mkdir(parents=True, exist_ok=True)
(folder / f"step-{attempt}.npz").touch()
"""


@pytest.mark.parametrize(
    ("death", "code", "how"),
    [
        (f"{CHECKPOINT}if index: sys.exit(7)", 7, "ended with 7"),
        ("if index: os.kill(os.getpid(), 6)", 128 + 6, "was killed by SIGABRT"),
    ],
    ids=["after progress", "by a signal"],
)
def test_a_worker_that_dies_again_and_again_gives_the_exit_code(death, code, how, launch, tmp_path):
    status, _, err = end(launch(f"{death}\ntime.sleep(1000)", restarts=2))
    assert status == code
    assert [line for line in err if line.startswith("launch: ")] == [
        f"launch: worker 1 {how}: {then}."
        for then in (
            "restarting all workers, 1 of at most 2 times",
            "restarting all workers, 2 of at most 2 times",
            "this was the last attempt",
        )
    ]
    assert attempts(tmp_path, 1) == 3


def test_a_failure_that_repeats_before_a_new_checkpoint_is_not_tried_again(launch, tmp_path):
    code = f"{CHECKPOINT.replace('{attempt}', '5')}\nif index: sys.exit(7)\ntime.sleep(1000)"
    status, _, err = end(launch(code))
    assert status == 7
    assert err == [
        "launch: worker 1 ended with 7: restarting all workers, 1 of at most 3 times.",
        "launch: worker 1 ended with 7 again without a new checkpoint, and would do so the next "
        "time.",
    ]
    assert attempts(tmp_path, 1) == 2


def test_a_wrong_command_line_of_the_trainer_is_not_tried_again(launch, tmp_path):
    code = """
        if index == 0:
            sys.exit(print("error: --alpha is wrong.", file=sys.stderr) or 2)
        time.sleep(1000)
    """
    assert end(launch(code)) == (2, [], ["[0] error: --alpha is wrong."])
    assert attempts(tmp_path, 0) == 1


SAVES = """
def save(number, frame):
    (here / f"saved-{index}").write_text(str(number))
    print("saved after", number)
    sys.exit(CODE)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, save)
(here / f"ready-{index}").touch()
while True:  # a signal just before a long sleep would wait for its end
    time.sleep(0.05)
"""


@pytest.mark.parametrize(("own", "status"), [(3, None), (75, 75)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_every_worker_and_nothing_restarts(number, own, status, launch, tmp_path):
    process = launch(SAVES.replace("CODE", str(own)))
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    process.send_signal(number)
    code, out, err = end(process)
    assert (code, err) == (status or 128 + number, [])
    assert sorted(out) == [f"[0] saved after {number:d}", f"[1] saved after {number:d}"]


def test_under_nohup_the_workers_survive_the_terminal(launch, tmp_path):
    code = """
        (here / f"ready-{index}").touch()
        while not (here / "hung up").exists():
            time.sleep(0.05)
    """
    process = launch(code, prefix=["nohup"])
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    process.send_signal(signal.SIGHUP)
    (tmp_path / "hung up").touch()
    assert end(process)[0] == 0


def test_a_second_signal_ends_workers_at_once_that_ignore_the_first(launch, tmp_path):
    code = """
        signal.signal(signal.SIGINT, lambda *_: (here / f"first-{index}").touch())
        (here / f"ready-{index}").touch()
        for _ in range(200):  # sooner than launch loses patience
            time.sleep(0.1)
        (here / f"late-{index}").touch()
    """
    process = launch(code)
    for step in ("ready", "first"):
        wait_for([tmp_path / f"{step}-0", tmp_path / f"{step}-1"])
        process.send_signal(signal.SIGINT)
    assert end(process)[0] == 128 + signal.SIGINT
    assert not list(tmp_path.glob("late-*"))


def test_a_reader_that_goes_away_ends_all(launch):
    process = launch("while True: print('x' * 1000)")
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=30)
    process.stderr.close()
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_reader_that_dies_of_the_same_ctrl_c_does_not_keep_the_workers_from_saving(
    launch, tmp_path
):
    process = launch("print('started')\n" + SAVES.replace("CODE", "75"))
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 75
    assert {(tmp_path / f"saved-{index}").read_text() for index in (0, 1)} == {"2"}


LONG = """
child = subprocess.Popen(["sleep", "1000"])
(here / f"attempt-child{index}-{attempt}-{child.pid}").touch()
if attempt == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as TensorFlow's strategy does
    (here / f"ready-{index}").touch()
    time.sleep(1000)
"""


def test_no_worker_outlives_a_launcher_that_is_killed_and_the_same_command_resumes(
    launch, tmp_path
):
    process = launch(LONG, "--run_dir", "run")
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    assert len(pids(tmp_path)) == 4
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(alive, pids(tmp_path))))
    assert end(launch(LONG, "--run_dir", "run"))[0] == 0


def test_a_terminal_that_is_lost_lets_the_workers_save(tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(HEAD + SAVES.replace("CODE", "75"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*LAUNCH, "--workers", "2", str(script)])
    wait_for([tmp_path / "ready-0", tmp_path / "ready-1"])
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 75
    assert not any(map(alive, pids(tmp_path)))
    assert {(tmp_path / f"saved-{index}").read_text() for index in (0, 1)} == {"1"}


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&-"])
def test_a_stream_that_the_shell_closed_does_no_harm(closed, launch):
    prefix = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    code = "os.write(2, b'to stderr')\nprint(os.environ['TF_CONFIG'] != '')"
    status, out, err = end(launch(code, prefix=prefix))
    assert status == 0
    assert sorted(out) == ([] if ">&- 2" in closed else ["[0] True", "[1] True"])
    assert sorted(err) == ([] if "2>" in closed else ["[0] to stderr", "[1] to stderr"])


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
    assert sum("restarting all workers" in line for line in err) == 1


def test_it_is_a_module_of_the_package():
    help = [sys.executable, "-m", "keras_elu.launch", "--help"]
    done = subprocess.run(help, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--workers N" in done.stdout


def test_it_needs_no_tensorflow():
    code = ALONE.replace('"__main__"', '"launch"') + "print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, LAUNCH[-1]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


SHOWS_GPUS = "print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'))"


@pytest.mark.parametrize(
    ("visible", "workers", "seen"),
    [("0,1", 2, ["0", "1"]), ("4,5,7", 2, ["4", "5,7"]), ("-1", 2, ["-1", "-1"]), ("3", 1, ["3"])],
)
def test_the_workers_share_the_gpus(launch, visible, workers, seen):
    status, out, _ = end(launch(SHOWS_GPUS, workers=workers, CUDA_VISIBLE_DEVICES=visible))
    assert status == 0
    assert sorted(out) == [f"[{index}] sees {gpus}" for index, gpus in enumerate(seen)]


def test_more_workers_than_gpus_are_refused(launch):
    status, out, err = end(launch(SHOWS_GPUS, workers=3, CUDA_VISIBLE_DEVICES="0,1"))
    assert (status, out, len(err)) == (2, [], 1)
    assert err[0].startswith("error: --workers 3 needs as many GPUs")
