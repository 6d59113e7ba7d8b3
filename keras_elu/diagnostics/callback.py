"""Diagnostics after every epoch of a training."""

import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_elu.diagnostics import saturation, units


class Diagnostics(keras.callbacks.Callback):
    """Adds diagnostics of a fixed batch to the logs of every epoch.

    Callbacks that come later in the list receive them: place it before `keras.callbacks.
    TensorBoard` or `keras.callbacks.CSVLogger`. Keras's own history has them, too. They are the
    median over all hidden units of the mean activation, `median_activation`, and the share of
    saturated inputs, `saturated_share`. The arguments add further ones. The callback has no state,
    so a training that resumes from a checkpoint needs nothing more.

    Args:
        x: One batch of inputs.
        labels: Its labels, whole numbers of shape `(batch,)`. Adds `bias_shift`, the median over
            all hidden units of the absolute change of the mean activation in one step of gradient
            descent with the learning rate of the optimizer.
        dense: Names of dense layers. Adds the fields of `Correction` as `LAYER/FIELD`, medians over
            the units. Needs `labels`.
        record: A folder. Adds `median_variance`, the median over all hidden units of the variance
            over the epochs of the unit's median activation; the medians are kept in the folder, in
            a file for each epoch.

    Raises:
        ValueError: If `dense` is given without `labels`.

    Example:

    >>> model = keras_elu.models.mnist_mlp((2, 2, 1))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, labels = np.random.rand(8, 2, 2, 1), np.arange(8)
    >>> history = model.fit(x, labels, callbacks=[Diagnostics(x, labels)], verbose=0).history
    >>> sorted(history)
    ['bias_shift', 'loss', 'median_activation', 'saturated_share']
    """

    def __init__(
        self,
        x,
        labels=None,
        *,
        dense: Sequence[str] = (),
        record: str | pathlib.Path | None = None,
    ):
        super().__init__()
        if dense and labels is None:
            raise ValueError("The gradients of dense layers need the labels of the batch.")
        self._x, self._labels, self._dense = x, labels, tuple(dense)
        self._record = None if record is None else pathlib.Path(record)

    def on_epoch_end(self, epoch, logs=None):
        model, x = self.model, self._x
        seen = saturation.activity(model, x).values()
        outputs = units.outputs(model, x)
        means = {name: rows.mean(axis=0) for name, rows in outputs.items()}
        logs["median_activation"] = float(np.median(_joined(means)))
        logs["saturated_share"] = float(np.mean([layer.saturated for layer in seen]))
        if self._record is not None:
            logs["median_variance"] = self._variance(self._record, epoch, outputs)
        if self._labels is not None:
            rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
            shift = _joined(units.bias_shift(model, x, self._labels, rate))
            logs["bias_shift"] = float(np.median(np.abs(shift)))
        for name in self._dense:
            found = units.correction(model, name, x, self._labels)
            for field, values in vars(found).items():
                logs[f"{name}/{field}"] = float(np.nanmedian(values))

    def _variance(self, record: pathlib.Path, epoch: int, outputs: dict[str, np.ndarray]) -> float:
        """Writes the medians of an epoch, and returns their variance over the epochs so far."""
        record.mkdir(parents=True, exist_ok=True)
        medians = {name: np.median(rows, axis=0) for name, rows in outputs.items()}
        np.savez(_path(record, epoch), **medians)
        # A resumed training writes again, with the same values, what followed its checkpoint.
        held = []
        for earlier in range(epoch + 1):
            with np.load(_path(record, earlier)) as file:
                held.append(dict(file))
        return float(np.median(_joined(units.variance_over_epochs(held))))


def _path(record: pathlib.Path, epoch: int) -> pathlib.Path:
    return record / f"medians-{epoch:05}.npz"


def _joined(by_layer: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(by_layer.values()))
