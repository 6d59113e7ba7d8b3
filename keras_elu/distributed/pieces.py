"""The piece of the global batch that is being computed."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Piece:
    """The piece that is being traced.

    Attributes:
        counted: Its rows; 0 for the row that stands in on a replica that has none.
        total: Rows of the global batch.
        sums: Pairs of the piece's sample weights and their sum over the global batch.
    """

    counted: tf.Tensor
    total: tf.Tensor
    sums: tuple[tuple[tf.Tensor, tf.Tensor], ...]


_piece: contextvars.ContextVar[Piece | None] = contextvars.ContextVar("piece", default=None)


@contextlib.contextmanager
def current(piece: Piece):
    token = _piece.set(piece)
    try:
        yield
    finally:
        _piece.reset(token)


def of_piece(loss: keras.Loss) -> Callable:
    """Returns a loss the mean of which, weighted by the rows of the pieces, is that of the batch.

    Losses that are means are so already. A sum is not, nor is a mean over the sample weights.
    """
    if loss.reduction not in ("sum", "none", None, "mean_with_sample_weight"):
        return loss

    def scaled(y_true, y_pred, sample_weight=None):
        value = loss(y_true, y_pred, sample_weight)
        piece = _piece.get()
        if piece is None:
            return value
        factor = tf.math.divide_no_nan(piece.total, piece.counted)
        if loss.reduction == "mean_with_sample_weight":
            (pair,) = [pair for pair in piece.sums if pair[0] is sample_weight] or [None]
            if pair is None:
                return value
            factor *= tf.reduce_sum(tf.cast(pair[0], "float32")) / pair[1]
        else:
            factor /= keras_divisor()
        return value * tf.cast(factor, value.dtype)

    scaled.reduction = loss.reduction
    return scaled


def keras_divisor() -> float:
    """What Keras divides means by: the number of replicas, in their context."""
    return float(tf.distribute.get_strategy().num_replicas_in_sync)
