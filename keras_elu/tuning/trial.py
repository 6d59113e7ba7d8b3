"""The process of a trial: a run of a trainer, which stops and saves when its worker dies.

python -m keras_elu.tuning.trial keras_elu.recipes.mnist 07 --epochs 2 ...
"""

import importlib
import os
import signal
import sys
import threading
import time

from keras_elu import training

_TO_SAVE = 30  # seconds


def _stop_with_the_worker() -> None:
    """Waits for the end of stdin, which is a pipe from the worker: however it ends, that does."""
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read, which locks it against an exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TO_SAVE)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_the_worker, daemon=True).start()
    training.main(importlib.import_module(sys.argv[1]), sys.argv[3:], trial=sys.argv[2])
