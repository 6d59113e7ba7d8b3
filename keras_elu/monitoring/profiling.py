"""A profile of a few steps, for TensorBoard's profiler."""

import pathlib
import re

import keras
import tensorflow as tf


class Profile(keras.callbacks.Callback):
    """Profiles whole executions, from the first to the last of the given training steps.

    Args:
        folder: TensorBoard's folder, in which the profile is saved.
        steps: The first and the last step, such as "100:110", counted from 1 over all epochs.
        steps_per_epoch: Steps in an epoch.
        epochs: Number of epochs.

    Raises:
        ValueError: If the run ends before the first or the last step.
    """

    def __init__(self, folder: pathlib.Path, steps: str, steps_per_epoch: int, epochs: int):
        super().__init__()
        self._folder = folder
        self._first, self._last = interval(steps)
        if self._last > steps_per_epoch * epochs:
            raise ValueError(
                f"--profile {steps} ends after the run, which has {steps_per_epoch * epochs:,} "
                f"steps: {epochs:,} epochs of {steps_per_epoch:,} steps."
            )
        self._steps = steps_per_epoch
        self._running, self._marked, self._start = False, None, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = epoch * self._steps

    def on_train_batch_begin(self, batch, logs=None):
        begin = self._start + batch + 1
        ends = min(begin + self.model.steps_per_execution - 1, self._start + self._steps)
        if not self._running and ends >= self._first and begin <= self._last:
            self._folder.mkdir(parents=True, exist_ok=True)
            tf.profiler.experimental.start(str(self._folder))
            self._running = True
        if self._running:
            self._marked = tf.profiler.experimental.Trace("train", step_num=begin, _r=1)
            self._marked.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        if not self._running:
            return
        self._marked.__exit__(None, None, None)
        if self._start + batch + 1 >= self._last:
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self._running and (epoch + 1) * self._steps >= self._last:
            self._stop()

    def on_train_end(self, logs=None):
        if self._running:
            self._stop()

    def _stop(self):
        tf.profiler.experimental.stop()
        self._running = False


def interval(text: str) -> tuple[int, int]:
    """Returns the first and the last step in a text such as "100:110".

    Example:

    >>> interval("100:110")
    (100, 110)

    Raises:
        ValueError: If the text has another form.
    """
    match = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(
            f"--profile must be the first and the last step, such as 100:110, not {text!r}."
        )
    return first, last
