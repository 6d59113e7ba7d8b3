"""How a run is done: its command line, devices, folder and progress."""

from keras_elu.training.config import Config, FloatByDataset, IntByDataset, activation
from keras_elu.training.loop import Run, fit, main, prepare
from keras_elu.training.run_folder import RunFolder

__all__ = [
    "Config",
    "FloatByDataset",
    "IntByDataset",
    "Run",
    "RunFolder",
    "activation",
    "fit",
    "main",
    "prepare",
]
