"""Exponential linear units for Keras 3, and the experiments of the paper that introduced them.

`import keras_elu` imports `initializers`, `layers`, `models`, `optimizers` and `schedules`, which
registers their classes with Keras. The other modules, such as `keras_elu.training`, are imported on
first use.
"""

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING

# Our commands open streams that the parent closed, and hide TensorFlow's messages below errors: it
# reads the level when Keras imports it.
if re.search(r"-m keras_elu\.|\b(trainers|tuning)/\w+\.py\b", " ".join(sys.orig_argv)):
    from keras_elu import system

    system.open_standard_streams()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_elu import initializers, layers, models, optimizers, schedules

if TYPE_CHECKING:
    from keras_elu import data, diagnostics, distributed, recipes, training, tuning

__all__ = [
    "__version__",
    "data",
    "diagnostics",
    "distributed",
    "initializers",
    "layers",
    "models",
    "optimizers",
    "recipes",
    "schedules",
    "training",
    "tuning",
]
__version__ = "0.1.0"


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"keras_elu.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
