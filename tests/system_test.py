"""Children end with their parent, and streams without a reader lose text, not the process."""

import pathlib
import signal
import subprocess
import sys

import pytest

from keras_elu import system
from tests.processes import alive, wait_until

ROOT = pathlib.Path(__file__).parents[1]
# The module alone: the package would load TensorFlow.
HEAD = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT / "keras_elu")!r})
import system
"""


def python(code, **keywords):
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", HEAD + code], text=True, **pipes | keywords)


PARENT = """
child = system.start([sys.executable, "-c", CHILD])
time.sleep(1000)
"""
CHILDREN = {
    "one that ends on SIGTERM": "import time; print(0, flush=True); time.sleep(1000)",
    "one that ignores SIGTERM": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(0, flush=True); time.sleep(1000)"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_a_child_and_its_children_end_with_the_parent(child, number):
    child = (
        f"import os, subprocess; print(os.getpid(), subprocess.Popen(['sleep', '99']).pid)\n{child}"
    )
    parent = python(f"CHILD = {child!r}" + PARENT)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.stdout.readline()
    assert all(map(alive, pids))
    parent.send_signal(number)
    parent.communicate()
    wait_until(lambda: not any(map(alive, pids)))


def test_a_child_is_the_command_itself():
    """Its process, its exit code, its signals; it reads nothing."""
    child = system.start(["sh", "-c", 'read -r line || echo "$$"'], stdout=subprocess.PIPE)
    assert int(child.stdout.readline()) == child.pid
    assert child.wait() == 0
    child.stdout.close()
    child.stdin.close()
    child = system.start([sys.executable, "-c", "import time; time.sleep(1000)"])
    child.terminate()
    assert child.wait() == -signal.SIGTERM
    child.stdin.close()


def test_the_number_of_cores_is_that_of_the_affinity():
    code = "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(system.cores())"
    assert python(code).communicate()[0] == "1\n"


GONE = """
gone = []
with system.surviving_streams(lambda: gone.append(1)):
    print("first", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        print("x" * 10000, flush=True)
        print("x" * 10000, file=sys.stderr)
print("after", flush=True)
sys.exit(10 * len(gone))
"""


def test_a_reader_that_is_gone_is_reported_once_for_each_stream():
    process = python(GONE, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait() == 20


def test_a_full_disk_behind_stdout_is_no_reader_that_is_gone():
    with pathlib.Path("/dev/full").open("w") as full:
        process = python(GONE, stdin=subprocess.DEVNULL, stdout=full)
        _, err = process.communicate()
    assert (process.returncode, len(err)) == (0, 3 * 10001)


def test_a_stream_that_the_parent_closed_is_not_taken_by_a_file(tmp_path):
    code = """
system.open_standard_streams()
file = open(sys.argv[1], "w")
os.write(2, b"from a library")
print("text", file=sys.stderr)
file.write("content")
"""
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", HEAD + code]
    subprocess.run([*command, tmp_path / "file"], check=True)
    assert (tmp_path / "file").read_text() == "content"
