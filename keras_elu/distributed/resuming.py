"""Callbacks that shorten executions, and that skip steps done before a resume."""

import keras

from keras_elu.distributed.functions import Functions


class Limit(keras.callbacks.Callback):
    """Shortens executions to the remaining steps of an epoch or an evaluation.

    Args:
        functions: The functions of the model.
        steps: Number of steps of an epoch; None if it ends with the data.
        test_steps: Number of steps of an evaluation; None if it ends with the data.
        epoch: The first epoch.
        done: Number of steps of the first epoch that are already done.
    """

    def __init__(
        self,
        functions: Functions,
        steps: int | None,
        test_steps: int | None,
        epoch: int = 0,
        done: int = 0,
    ):
        super().__init__()
        self._functions = functions
        self._steps, self._test_steps = steps, test_steps
        self._first_epoch, self._done_in_first = epoch, done
        self.done = 0  # steps of the current epoch done in an earlier attempt

    def _limit(self, begin, steps, done):
        end = begin + self.model.steps_per_execution
        end = end if steps is None else min(end, steps)
        self._functions.steps = max(0, end - max(begin, done))

    @property
    def skips(self) -> bool:
        """Whether the execution has no steps to do."""
        return self._functions.steps == 0

    def on_epoch_begin(self, epoch, logs=None):
        self.done = self._done_in_first if epoch == self._first_epoch else 0

    def on_train_batch_begin(self, batch, logs=None):
        self._limit(batch, self._steps, self.done)

    def on_test_batch_begin(self, batch, logs=None):
        self._limit(batch, self._test_steps, 0)


class Resumed(keras.callbacks.CallbackList):
    """Callbacks that are not called for the steps of an earlier attempt.

    Args:
        limit: The one of the `callbacks` that is called for every step.
        callbacks: The callbacks.
        arguments: As for `keras.callbacks.CallbackList`.
    """

    def __init__(self, limit: Limit, callbacks: list[keras.callbacks.Callback], **arguments):
        super().__init__(callbacks, **arguments)
        self._limit = limit

    def on_train_batch_begin(self, batch, logs=None):
        self._limit.on_train_batch_begin(batch)
        if not self._limit.skips:
            super().on_train_batch_begin(max(batch, self._limit.done), logs)

    def on_train_batch_end(self, batch, logs=None):
        if not self._limit.skips:
            super().on_train_batch_end(batch, logs)
