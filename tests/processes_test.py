"""A child counts as soon as its own program runs, and not before."""

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
    try:
        wait_until(lambda: started.pid in children(os.getpid()))
        assert forked not in children(os.getpid())
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)
        started.kill()
        started.wait()
    assert started.pid not in children(os.getpid())
