"""Training runs: configuration, command line, callbacks, run folder and checkpoints.

Also gives the names of `keras_elu.distributed` that training scripts need.
"""

from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.distributed.model import DistributedModel
from keras_elu.distributed.strategies import strategy
from keras_elu.training.callbacks import RunCallbacks
from keras_elu.training.checkpoints import Checkpoints, Stopped
from keras_elu.training.config import BY_DATASET, Config, FloatByDataset, IntByDataset, setting
from keras_elu.training.fitting import fit
from keras_elu.training.from_config import activation, learning_rate
from keras_elu.training.main import main
from keras_elu.training.run import Run, prepare_run
from keras_elu.training.run_folder import RunFolder

__all__ = [
    "BY_DATASET",
    "Checkpoints",
    "Config",
    "DistributedModel",
    "FloatByDataset",
    "IntByDataset",
    "NonFiniteLoss",
    "Run",
    "RunCallbacks",
    "RunFolder",
    "Stopped",
    "activation",
    "fit",
    "learning_rate",
    "main",
    "prepare_run",
    "setting",
    "strategy",
]
