"""The process of a trial: one run of a trainer, which saves and ends when its search ends.

python keras_elu/tuning/trial.py keras_elu.recipes.mnist 07 --epochs 2 ...

It is started by its path: `python -m` would import TensorFlow before it can watch the search.
"""

import importlib
import os
import pathlib
import signal
import sys
import threading
import time

_TO_SAVE = 10  # seconds


def _end_with_the_search() -> None:
    """Waits for the end of stdin, a pipe from the search, which closes however the search dies."""
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read, which holds a lock at exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TO_SAVE)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_search, daemon=True).start()
    here = pathlib.Path(__file__).parent  # on the path of a script; its modules are no packages
    sys.path[:] = [str(here.parents[1]), *(path for path in sys.path if path != str(here))]
    from keras_elu import training

    training.main(importlib.import_module(sys.argv[1]), sys.argv[3:], trial=sys.argv[2])
