"""Losses of pieces of the global batch, weighted to add up to the loss of the batch."""

import contextlib
import contextvars
import dataclasses
from typing import Literal, NamedTuple

import keras
import tensorflow as tf

from keras_elu.steps import keras_internals

# How the loss of a batch follows from the losses of its pieces: their mean weighted by `weight`,
# their sum, or one value for each row, whose sum Keras minimises.
Kind = Literal["mean", "sum", "rows"]


@dataclasses.dataclass(frozen=True)
class Piece:
    """The piece that is being traced.

    Attributes:
        rows: Number of its rows; 0 for the placeholder row of a replica without rows.
        total: Number of rows of the global batch.
        kinds: The kind of each loss of the model.
        divisors: For each loss, the sum of `weight` over the batch; None if that is `total`.
    """

    rows: tf.Tensor
    total: tf.Tensor
    kinds: tuple[Kind, ...]
    divisors: tuple[tf.Tensor | None, ...]

    @property
    def share(self) -> tf.Tensor:
        """The piece's share of the rows of the global batch."""
        return tf.math.divide_no_nan(self.rows, self.total)


class Call(NamedTuple):
    """The arguments of a call of a loss."""

    y_true: tf.Tensor
    y_pred: tf.Tensor
    sample_weight: tf.Tensor | None


_piece: contextvars.ContextVar[Piece | None] = contextvars.ContextVar("piece", default=None)
_calls: contextvars.ContextVar[dict[int, Call] | None] = contextvars.ContextVar(
    "calls", default=None
)


@contextlib.contextmanager
def current(piece: Piece | None):
    """Makes losses those of a piece; None: those of a whole batch, as Keras computes them."""
    token = _piece.set(piece)
    try:
        yield
    finally:
        _piece.reset(token)


@contextlib.contextmanager
def recorded_calls():
    """Records the arguments of each loss, by its number."""
    calls = {}
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


class PieceLoss:
    """Replaces a loss of a compiled model.

    Args:
        loss: The loss.
        number: Its position among the losses of the model.
    """

    def __init__(self, loss: keras.Loss, number: int):
        self.loss, self.reduction, self._number = loss, loss.reduction, number

    def __call__(self, y_true, y_pred, sample_weight=None):
        if (calls := _calls.get()) is not None:
            calls[self._number] = Call(y_true, y_pred, sample_weight)
        value = self.loss(y_true, y_pred, sample_weight)
        piece = _piece.get()
        if piece is None:
            return value
        factor = tf.constant(1.0)
        if keras_divisor() > 1 and not _is_divided(self.loss, y_true, y_pred):
            factor /= keras_divisor()
        kind, divisor = piece.kinds[self._number], piece.divisors[self._number]
        if kind == "sum":
            factor *= tf.math.divide_no_nan(1.0, piece.share)
        elif kind == "mean" and divisor is not None:
            own = tf.cast(weight(self.loss, y_true, y_pred, sample_weight), "float32")
            factor *= tf.math.divide_no_nan(own, divisor * piece.share)
        return value * tf.cast(factor, value.dtype)


def weight(loss: keras.Loss, y_true, y_pred, sample_weight) -> tf.Tensor | None:
    """Returns the divisor of a mean over some rows; None: the number of rows.

    Keras divides by the number of valid entries if the predictions or `ignore_class` make a mask,
    and by the sum of the sample weights for the reduction "mean_with_sample_weight".
    """
    if not isinstance(loss, keras.Loss) or loss.reduction in ("sum", "none", None):
        return None
    values = _unreduced(loss, y_true, y_pred)
    if values is None:
        return None
    masks = [m for m in map(keras_internals.mask, (y_pred, values)) if m is not None]
    mask = masks[0] & masks[1] if len(masks) == 2 else masks[0] if masks else None
    if loss.reduction == "mean_with_sample_weight" and sample_weight is not None:
        weights = tf.cast(sample_weight, loss.dtype)
        if mask is not None:
            mask = tf.cast(mask, loss.dtype)
            while len(mask.shape) > len(weights.shape) and weights.shape[-1] != 1:
                weights = weights[..., None]
            weights = weights * mask
        return tf.reduce_sum(weights)
    return None if mask is None else tf.reduce_sum(tf.cast(mask, "float32"))


def _unreduced(loss: keras.Loss, y_true, y_pred) -> tf.Tensor | None:
    """Returns the values that a loss reduces; None for a loss with a `__call__` of its own."""

    def converted(tensors):
        return keras.tree.map_structure(
            lambda t: keras.ops.convert_to_tensor(t, dtype=loss.dtype), tensors
        )

    try:
        return loss.call(converted(y_true), converted(y_pred))
    except NotImplementedError:
        return None


def _is_divided(loss, y_true, y_pred) -> bool:
    """Returns whether Keras divides a loss by the number of replicas: a mean of several values."""
    if not isinstance(loss, keras.Loss) or loss.reduction in ("sum", "none", None):
        return False
    values = _unreduced(loss, y_true, y_pred)
    return values is not None and len(values.shape) > 0


def replace_losses(model: keras.Model) -> None:
    """Replaces each loss of a built model by a `PieceLoss`."""
    keras_internals.replace_losses(model, PieceLoss)


def losses(model: keras.Model) -> list[keras.Loss]:
    """Returns the losses of a model, as Keras has created them."""
    return [getattr(loss, "loss", loss) for loss in keras_internals.losses(model)]


def keras_divisor() -> float:
    """Returns the number of replicas, by which Keras divides means inside a strategy."""
    return float(tf.distribute.get_strategy().num_replicas_in_sync)
