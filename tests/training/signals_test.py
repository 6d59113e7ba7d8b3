"""Stop signals, sent to this process and to one that computes without returning to Python."""

import os
import signal
import subprocess
import sys

import pytest

from keras_elu.training.signals import StopSignals

BUSY = """
import ctypes
lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
library.pthread_mutex_init(lock, None)
library.pthread_mutex_lock(lock)
from keras_elu.training.signals import StopSignals
with StopSignals().handled():
    print("busy", flush=True)
    library.pthread_mutex_lock(lock)  # never returns
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed_and_the_process_continues(number, capsys):
    before = signal.getsignal(number)
    stop = StopSignals()
    with stop.handled():
        assert not stop()
        os.kill(os.getpid(), number)
        stop._received.wait(60)
        assert stop()
    assert capsys.readouterr().err == f"{number.name}: stopping after this step\n"
    assert signal.getsignal(number) == before


def test_another_signal_does_not_stop_a_run():
    stop, seen = StopSignals(), []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append("SIGUSR1"))
    try:
        with stop.handled():
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["SIGUSR1"]
    assert not stop()


def test_the_second_signal_ends_a_process_that_does_not_return_to_python():
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        lines = iter(process.stderr.readline, "")
        assert "SIGTERM: stopping after this step\n" in lines
        process.send_signal(signal.SIGINT)
        assert "SIGINT again: stopped at once\n" in lines
        assert process.wait() == 128 + signal.SIGINT
