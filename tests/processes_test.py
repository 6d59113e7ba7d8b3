"""A child counts as soon as it runs the program that is meant."""

import os
import signal
import subprocess

from tests.processes import children, wait_until


def test_a_child_that_has_yet_to_start_its_program_does_not_count():
    forked = os.fork()
    if not forked:
        signal.pause()
        os._exit(0)
    started = subprocess.Popen(["sleep", "100"])
    helper = subprocess.Popen(["tail", "-f", "/dev/null"])
    try:
        wait_until(lambda: children(os.getpid(), b"tail"))
        wait_until(lambda: children(os.getpid(), b"sleep"))
        assert children(os.getpid(), b"sleep") == [started.pid]
        assert forked not in children(os.getpid(), b"")
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)
        for process in (started, helper):
            process.kill()
            process.wait()
    assert children(os.getpid(), b"sleep") == []
