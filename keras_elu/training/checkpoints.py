"""A callback that saves a run, and resumes it as if it had never been stopped."""

import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.distributed.model import DistributedModel
from keras_elu.distributed.replicas import Agreement, Copies
from keras_elu.training.store import Checkpoint, Store

# The attributes in which Keras callbacks keep what they know of earlier epochs.
_REMEMBERED = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
}
_WHOLE_EPOCHS = (
    "give fit the same steps_per_epoch and a data set with .repeat(), or, where step is 0, the "
    "whole of a finite data set"
)


class Stopped(Exception):
    """The run was asked to stop, and saved a checkpoint first.

    Attributes:
        step: Number of training steps done.
    """

    def __init__(self, step: int):
        super().__init__(f"Stopped and saved after step {step:,}.")
        self.step = step


class Checkpoints(keras.callbacks.Callback):
    """Saves everything that a run needs to resume, and restores it.

    A checkpoint holds the variables of the model, its optimizer and its metrics (metrics: one copy
    per replica), the position in the data, and the state of other callbacks. Nothing else matters:
    random numbers come from variables of the model, and the pipelines of `keras_elu.data` are a
    function of the step. Resumed on the same devices, a run equals an uninterrupted one in every
    bit. On another number of replicas, it does to rounding, if it has neither dropout nor batch
    normalisation or as many pieces of a batch: replicas times micro-batches.

    Pass it last among the callbacks of a `DistributedModel`. Pass `fit` an endless data set that
    begins at batch `start`, and `steps_per_epoch`. A finite data set can be resumed only between
    epochs, and is then passed whole.

    Args:
        folder: Folder of the checkpoints.
        every: Interval between checkpoints: steps, such as 100 or "100", or seconds, such as "60s".
        keep: Number of files to keep.
        callbacks: Callbacks whose state belongs to the run, by name: EarlyStopping,
            ModelCheckpoint, ReduceLROnPlateau, and any callback with `get_state()`, returning what
            JSON can hold, and `set_state(state)`.
        stop: Called after each execution; returns whether to save and stop.
        flush: Called before each checkpoint, to write out what must precede it, such as logs.

    Attributes:
        epoch: Number of epochs done. Pass it to `DistributedModel.fit` as `initial_epoch`.
        step: Number of steps done in the current epoch. Pass it to `fit` as `initial_step`.
        done: Number of steps done in all epochs.
        start: Number of the first batch to train on.

    Raises:
        ValueError: If `every` is neither steps nor seconds, if another version of the package wrote
            the folder, or if `fit` is called with another class of model or with data that does
            not fit the checkpoint.
        OSError: From `fit`, if workers have found different checkpoints.

    Example:

    >>> inputs = keras.Input((2,))
    >>> model = keras_elu.training.DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    >>> model.compile("sgd", "mse")
    >>> batches = tf.data.Dataset.from_tensors((np.ones((4, 2)), np.ones((4, 1)))).repeat()
    >>> checkpoints = Checkpoints("run/checkpoints", every=5)
    >>> _ = model.fit(
    ...     batches.skip(checkpoints.start),
    ...     steps_per_epoch=10,
    ...     initial_epoch=checkpoints.epoch,
    ...     initial_step=checkpoints.step,
    ...     callbacks=[checkpoints],
    ...     verbose=0,
    ... )
    >>> checkpoints.close()
    >>> Checkpoints("run/checkpoints").start
    10
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        every: int | str = "60s",
        keep: int = 2,
        callbacks: Mapping[str, keras.callbacks.Callback] | None = None,
        stop: Callable[[], bool] = lambda: False,
        flush: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self._every, self._seconds = interval(every)
        self._store = Store(pathlib.Path(folder), keep)
        self._callbacks = dict(callbacks or {})
        self._stop, self._flush = stop, flush
        self._save_first = False
        self._agreement = self._copies = self._before_validation = None
        self._go_to(self._store.newest())

    def _go_to(self, checkpoint: Checkpoint | None) -> None:
        self._found = checkpoint
        state = {} if checkpoint is None else checkpoint.state
        self.epoch, self.step = state.get("epoch", 0), state.get("step_of_epoch", 0)
        self.done = self._saved = 0 if checkpoint is None else checkpoint.step
        self._left_out = state.get("left_out", 0)  # Batches skipped after a failure.

    @property
    def start(self) -> int:
        return self.done + self._left_out

    @property
    def replicas(self) -> int | None:
        """Number of replicas that saved the checkpoint; None for a new run."""
        return self._found and self._found.state["replicas"]

    def check(self, model: keras.Model) -> None:
        """Calls the function `check` with the checkpoint to resume from, if there is one."""
        if self._found is not None:
            check(model, self._found)

    def save_start(self) -> None:
        """Saves a checkpoint before the first step, for `go_back`."""
        self._save_first = True

    def go_back(self, error: NonFiniteLoss) -> None:
        """Returns to the newest checkpoint, and skips the batches up to that of the error."""
        reached = self.start + error.offset
        self._store.wait()
        self._agreement.any(False)  # Only the chief writes, and all workers wait for it.
        self._go_to(self._store.newest())
        self._left_out = reached - self.done

    def close(self) -> None:
        """Waits until the last checkpoint is written."""
        self._store.wait()

    def clear(self, all_but: int = 0) -> None:
        """Removes the checkpoints, except for the newest `all_but`."""
        self._store.clear(all_but)

    def memory(self, name: str) -> dict[str, Any]:
        """Returns what a callback remembers in the checkpoint from which the run resumes."""
        return self._found.state["callbacks"].get(name, {}) if self._found else {}

    # Called by Keras.

    def on_train_begin(self, logs=None):
        if not isinstance(self.model, DistributedModel):
            raise ValueError(
                "Checkpoints needs a keras_elu.training.DistributedModel, which can begin inside "
                f"of an epoch, not a {type(self.model).__name__}: make the model one."
            )
        strategy = self.model.distribute_strategy
        self._chief = strategy.extended.should_checkpoint
        self._agreement = self._agreement or Agreement(strategy)
        if not self._agreement.same(self.done, self._left_out):
            raise OSError(
                "The workers have found different checkpoints: name a folder on a disk that they "
                "share, and rerun the same command on all workers."
            )
        self._copies = Copies(strategy, self.model.metrics_variables)
        self._steps = self.params["steps"]
        self._epoch, self._step = self.epoch, self.step
        self._last = time.monotonic()
        if self._found is not None:
            self._check_epoch(self._found)
            self._restore(self._found)
        elif self._save_first:
            self._save(self._snapshot())

    def _check_epoch(self, checkpoint: Checkpoint) -> None:
        held = checkpoint.state.get("steps", self._steps)
        if held != self._steps:
            raise ValueError(
                f"An epoch has {self._steps} batches, but had {held} when the checkpoint was "
                f"saved: {_WHOLE_EPOCHS}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if self._found is not None and epoch == self.epoch:
            if self.step:  # Otherwise they belong to the last validation.
                self._copies.write(_numbered(self._found.arrays, "metric"))
            self._found = None
        elif epoch > self.epoch:
            self._step = 0
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        end = batch + 1 if self._steps is None else min(batch + 1, self._steps)
        self.done += end - self._step
        self._step = end
        stop, save = self._agreement.any(self._stop(), self._due())
        if end == self._steps:  # Validation still belongs to this epoch.
            self._before_validation = self._snapshot()
        if stop:
            self._save_and_stop(self._before_validation or self._snapshot())
        if save and end != self._steps:
            self._save(self._snapshot())

    def on_test_batch_end(self, batch, logs=None):
        if self._agreement is not None and self._agreement.any(self._stop())[0]:
            self._save_and_stop(self._before_validation)

    def on_epoch_end(self, epoch, logs=None):
        if not self._step:
            raise ValueError(
                f"The data set has no batches left for epoch {epoch + 1}: {_WHOLE_EPOCHS}."
            )
        self._before_validation = None
        self._epoch, self._step = epoch + 1, 0
        last = self._epoch == self.params["epochs"] or self.model.stop_training
        stop, save = self._agreement.any(self._stop(), last or self._due())
        if stop:
            self._save_and_stop(self._snapshot())
        if save:
            self._save(self._snapshot())

    # Contents of a checkpoint.

    def _due(self) -> bool:
        if not self._chief or self._store.busy:
            return False
        if self._seconds is not None:
            return time.monotonic() - self._last >= self._seconds
        return self.done // self._every > self._saved // self._every

    def _snapshot(self) -> Checkpoint:
        variables = _variables(self.model)
        arrays = {
            f"variable {i}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(variables)
        }
        arrays |= {f"metric {i}": copies for i, copies in enumerate(self._copies.read())}
        memories = {}
        for name, callback in self._callbacks.items():
            memories[name], held = _memory(callback)
            arrays |= {f"{name} {i}": array for i, array in enumerate(held)}
        state = {
            "epoch": self._epoch,
            "step_of_epoch": self._step,
            "steps": self._steps,
            "left_out": self._left_out,
            "replicas": self.model.distribute_strategy.num_replicas_in_sync,
            "shapes": [list(variable.shape) for variable in self.model.variables],
            "paths": [variable.path for variable in variables],
            "callbacks": memories,
        }
        return Checkpoint(self.done, state, arrays)

    def _save(self, checkpoint: Checkpoint) -> None:
        self._saved, self._last = checkpoint.step, time.monotonic()
        if self._chief and all(map(_finite, checkpoint.arrays.values())):
            self._flush()
            self._store.write(checkpoint)

    def _save_and_stop(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            self._save(checkpoint)
        if self._chief:
            self._store.check_saved(self.done)
        raise Stopped(self.done)

    def _restore(self, checkpoint: Checkpoint) -> None:
        restore_variables(self.model, checkpoint)
        for name, callback in self._callbacks.items():
            _remind(
                callback,
                checkpoint.state["callbacks"].get(name, {}),
                _numbered(checkpoint.arrays, name),
            )


def check(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Raises `ValueError` if a checkpoint belongs to a different network."""
    held = [tuple(shape) for shape in checkpoint.state["shapes"]]
    if held != (own := [tuple(variable.shape) for variable in model.variables]):
        raise ValueError(
            f"The checkpoint belongs to another network, which has {len(held)} variables with "
            f"{sum(map(math.prod, held)):,} numbers instead of {len(own)} with "
            f"{sum(map(math.prod, own)):,}: name a new folder."
        )


def restore_variables(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Assigns the values of a checkpoint to a model and its optimizer, both built."""
    variables = _variables(model)
    values = _numbered(checkpoint.arrays, "variable")
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.kind == "V":  # NumPy stores bfloat16 as raw bytes.
            value = value.view(variable.value.dtype.as_numpy_dtype)
        variable.assign(value)


def interval(text: int | str, name: str = "every") -> tuple[int | None, float | None]:
    """Returns the steps or the seconds that 100, "100" or "60s" means.

    Example:

    >>> interval(100), interval("100"), interval("60s")
    ((100, None), (100, None), (None, 60.0))

    Raises:
        ValueError: If it means neither.
    """
    written = str(text) if isinstance(text, int | str) and not isinstance(text, bool) else ""
    number, seconds = written.removesuffix("s"), written.endswith("s")
    if not re.fullmatch("0*[1-9][0-9]{0,8}", number):
        raise ValueError(
            f"{name} must be steps, such as 100, or seconds, such as 60s, not {text!r}."
        )
    return (None, float(number)) if seconds else (int(number), None)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """The variables that have the same value on every replica."""
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    return own + model.optimizer.variables


def _numbered(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    found = []
    while (key := f"{name} {len(found)}") in arrays:
        found.append(arrays[key])
    return found


def _finite(array: np.ndarray) -> bool:
    if array.dtype.kind == "V":  # bfloat16
        array = array.astype("float32")
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _memory(callback: keras.callbacks.Callback) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The state of a callback: values for JSON, and weights."""
    weights = list(getattr(callback, "best_weights", None) or [])
    if hasattr(callback, "get_state"):
        return callback.get_state(), weights
    values = {}
    for name in _remembered(callback):
        value = getattr(callback, name, None)
        values[name] = value.item() if hasattr(value, "item") else value
    return values, weights


def _remind(callback, memory: dict[str, Any], weights: list[np.ndarray]) -> None:
    if hasattr(callback, "set_state"):
        callback.set_state(memory)
    else:
        for name in _remembered(callback):
            setattr(callback, name, memory[name])
    if weights:
        callback.best_weights = weights


def _remembered(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    for cls, names in _REMEMBERED.items():
        if isinstance(callback, cls):
            return names
    raise TypeError(
        f"{type(callback).__name__} must have get_state() and set_state(state), which save and "
        "restore its state."
    )
