"""How a run is done: its command line, devices, step, folder and progress."""

from keras_elu.training.checkpoints import Checkpoints, Stopped
from keras_elu.training.config import (
    BY_DATASET,
    Config,
    FloatByDataset,
    IntByDataset,
    activation,
    learning_rate,
)
from keras_elu.training.devices import strategy
from keras_elu.training.distributed import DistributedModel
from keras_elu.training.execution import NonFiniteLoss
from keras_elu.training.loop import Records, Run, fit, main, prepare
from keras_elu.training.run_folder import RunFolder

__all__ = [
    "BY_DATASET",
    "Checkpoints",
    "Config",
    "DistributedModel",
    "FloatByDataset",
    "IntByDataset",
    "NonFiniteLoss",
    "Records",
    "Run",
    "RunFolder",
    "Stopped",
    "activation",
    "fit",
    "learning_rate",
    "main",
    "prepare",
    "strategy",
]
