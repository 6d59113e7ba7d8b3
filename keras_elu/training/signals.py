"""Stopping a run by a signal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from keras_elu import system


class StopSignals:
    """Whether SIGTERM, SIGINT or SIGHUP was received; a second one ends the process at once."""

    def __init__(self):
        self._received = threading.Event()

    def __call__(self) -> bool:
        return self._received.is_set()

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handles the signals while the block runs.

        Python runs signal handlers only between its own instructions, and TensorFlow may compute
        for a long time without returning to Python. A thread therefore reads the signals from
        Python's wakeup file descriptor as soon as they arrive.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup sets
            numbers.append(signal.SIGHUP)
        handlers = {number: signal.signal(number, _ignore) for number in numbers}
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._listen, args=(reading, set(handlers)), daemon=True)
        thread.start()
        try:
            with system.surviving_streams(self._received.set):
                yield
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(writing)  # ends the thread
            thread.join()
            os.close(reading)

    def _listen(self, reading, numbers):
        while received := os.read(reading, 1):
            number = received[0]
            if number not in numbers:
                continue
            name = signal.Signals(number).name
            if self._received.is_set():
                print(f"{name} again: stopped at once", file=sys.stderr, flush=True)
                os._exit(128 + number)
            self._received.set()
            print(f"{name}: stopping after this step", file=sys.stderr, flush=True)


def _ignore(number, frame):
    """Replaces the default action, which would end the process."""
