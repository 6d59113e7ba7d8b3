"""The best epoch of a run: its model is kept, and a run without improvement stops."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_elu.steps import keras_internals
from keras_elu.training.run import Run


class BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation metric.

    Losses and errors are best when they are lowest, all other metrics when they are highest. Of
    equal epochs, the first is the best. If the optimizer averages the weights, the averages are
    kept, because validation uses them.

    Args:
        metric: Name of a validation metric, such as "val_accuracy".
        patience: Number of epochs without improvement after which the run stops. None: never.

    Attributes:
        metrics: The validation metrics of the best epoch; empty before the first epoch.
        best_epoch: The best epoch, counted from 1; 0 before the first epoch.
        best_weights: Its weights, which a checkpoint saves.
        epochs: Number of epochs done.
    """

    def __init__(self, metric: str, patience: int | None = None):
        super().__init__()
        self.metric, self.patience = metric, patience
        self.metrics: dict[str, float] = {}
        self.best_epoch = self.epochs = 0
        self.best_weights: list[np.ndarray] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the run has gone without improvement for `patience` epochs."""
        return self.patience is not None and self.epochs - self.best_epoch >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        self.epochs = epoch + 1
        if self._improves(float(logs[self.metric])):
            self.best_epoch = self.epochs
            self.metrics = {k: float(v) for k, v in logs.items() if k.startswith("val_")}
            self.best_weights = [keras.ops.convert_to_numpy(v) for v in _evaluated(self.model)]
        if self.exhausted:
            self.model.stop_training = True

    def _improves(self, value: float) -> bool:
        if not self.metrics:
            return True
        best = self.metrics[self.metric]
        if math.isnan(value) or math.isnan(best):
            return math.isnan(best) and not math.isnan(value)
        return value < best if is_lowest(self.metric) else value > best

    @contextlib.contextmanager
    def restored(self, model: keras.Model) -> Iterator[None]:
        """Gives the model the best weights while the block runs."""
        last = [keras.ops.convert_to_numpy(v) for v in model.weights]
        _assign(model, self.best_weights)
        try:
            yield
        finally:
            _assign(model, last)

    def get_state(self) -> dict[str, Any]:
        """Returns the state that a checkpoint saves, besides the weights."""
        return {"epoch": self.best_epoch, "epochs": self.epochs, "metrics": self.metrics}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a saved state."""
        self.best_epoch, self.epochs = state["epoch"], state["epochs"]
        self.metrics = state["metrics"]


def is_lowest(metric: str) -> bool:
    """Returns whether the lowest value of a metric is the best.

    Example:

    >>> is_lowest("val_loss"), is_lowest("val_accuracy")
    (True, False)
    """
    return any(word in metric for word in ("loss", "error"))


def of_run(run: Run) -> BestEpoch | None:
    """Returns the callback that the configuration of a run asks for, if any.

    Raises:
        ValueError: With one sentence, if there is no such metric, or no images are held out.
    """
    metric, patience = run.config.keep_best, run.config.patience
    if metric is None:
        if patience is not None:
            raise ValueError(
                f"--patience {patience} needs the metric that must improve: add --keep_best, such "
                "as --keep_best val_loss."
            )
        return None
    run.model.build_for(run.training(0).element_spec)
    names = [f"val_{name}" for name in run.model.get_metrics_result()]
    if metric not in names:
        raise ValueError(f"--keep_best must be one of {', '.join(names)}, not {metric!r}.")
    if not run.dataset.held_out and not run.config.validation_examples:
        raise ValueError(
            f"--keep_best would choose by the test images, because {run.dataset.name} holds out no "
            "others: add --validation_examples, such as "
            f"--validation_examples {max(1, run.dataset.examples['train'] // 10)}."
        )
    return BestEpoch(metric, patience)


def _evaluated(model: keras.Model) -> list[keras.Variable]:
    """The variables whose values evaluation uses, in the order of `model.weights`."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return model.weights
    averages = keras_internals.moving_averages(optimizer)
    averaged = dict(zip(map(id, model.trainable_variables), averages, strict=True))
    return [averaged.get(id(variable), variable) for variable in model.weights]


def _assign(model: keras.Model, values: list[np.ndarray]) -> None:
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)
