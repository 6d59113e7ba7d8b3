"""What a run needs to go on after it was killed: all variables, as of the end of an epoch."""

import keras
import numpy as np

from keras_elu.training.run_folder import RunFolder


class Checkpoint(keras.callbacks.Callback):
    """Keeps the variables of a model and of its optimizer at the end of every epoch.

    A distributed model draws its random numbers from variables, and the pipelines of
    `keras_elu.data` are a function of the step, so that a run that goes on from here does what it
    would have done.

    Args:
        folder: The folder of the run.
    """

    def __init__(self, folder: RunFolder):
        super().__init__()
        self._folder = folder
        self._path = folder.checkpoint

    @property
    def epochs(self) -> int:
        """Number of epochs that are done; 0 where there is no file."""
        if not self._path.exists():
            return 0
        with np.load(self._path) as arrays:
            return int(arrays["epochs"])

    def restore(self, model: keras.Model) -> None:
        """Sets the model's variables and its optimizer's, where there is a file."""
        if self._path.exists():
            with np.load(self._path) as arrays:
                for number, variable in enumerate(_variables(model)):
                    variable.assign(arrays[str(number)])

    def on_epoch_end(self, epoch, logs=None):
        if not self._folder.chief:
            return
        values = map(keras.ops.convert_to_numpy, _variables(self.model))
        arrays = {str(number): value for number, value in enumerate(values)}
        with self._folder.aside(self._path) as path, path.open("wb") as file:
            np.savez(file, epochs=epoch + 1, **arrays)


def _variables(model: keras.Model) -> list[keras.Variable]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return model.variables + model.optimizer.variables
