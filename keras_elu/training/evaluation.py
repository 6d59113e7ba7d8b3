"""Evaluating a model: with averaged weights, or with the weights of an earlier run."""

import pathlib
import zipfile

import keras
import numpy as np

from keras_elu.steps import keras_internals
from keras_elu.training import checkpoints
from keras_elu.training.store import Store, read


class Averages(keras.callbacks.Callback):
    """Validates with the moving averages of the weights that the optimizer keeps (`use_ema`).

    `fit` leaves the averages in the model when it ends. `keras.callbacks.SwapEMAWeights` swaps the
    two by adding and subtracting, which leaves rounding errors in both.
    """

    _kept: list[np.ndarray] | None = None

    def on_test_begin(self, logs=None):
        averages = keras_internals.moving_averages(self.model.optimizer)
        self._kept = [keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables]
        for variable, average in zip(self.model.trainable_variables, averages, strict=True):
            variable.assign(average.value)

    def on_test_end(self, logs=None):
        for variable, value in zip(self.model.trainable_variables, self._kept, strict=True):
            variable.assign(value)
        self._kept = None


def restore(model: keras.Model, path: pathlib.Path) -> str:
    """Loads the weights of a run into a model, and returns where they were found.

    Executes no code from the file. For an incomplete run, loads the newest checkpoint, with
    averaged weights if the optimizer keeps averages.

    Args:
        model: A model that is built, and compiled as it was trained.
        path: Folder of a run, one of its checkpoints, or a `.keras` or `.weights.h5` file.

    Raises:
        ValueError: With one sentence, if there are no weights, or they belong to another network.
    """
    if path.is_dir():
        if not (path / "model.keras").exists():
            checkpoint = Store(path / "checkpoints").newest()
            if checkpoint is None:
                raise ValueError(f"{path} holds neither a model.keras nor a checkpoint.")
            _from_checkpoint(model, checkpoint)
            return f"{path}, after step {checkpoint.step:,}"
        path = path / "model.keras"
    if not path.is_file() or not path.name.endswith((".keras", ".weights.h5", ".npz")):
        raise ValueError(
            f"{path} is not the folder of a run, nor a checkpoint, .keras or .weights.h5 file."
        )
    if path.suffix == ".npz":
        checkpoint = read(path)
        if checkpoint is None:
            raise ValueError(f"{path} is damaged, or not a checkpoint.")
        _from_checkpoint(model, checkpoint)
    else:
        _from_file(model, path)
    return str(path)


def _from_checkpoint(model, checkpoint):
    checkpoints.check(model, checkpoint)
    checkpoints.restore_variables(model, checkpoint)
    optimizer = model.optimizer
    optimizer.finalize_variable_values(model.trainable_variables)


def _from_file(model, path):
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The weights in {path} cannot be loaded ({type(error).__name__}: {reason})."
        ) from error
