"""A trial of a function on a few random rows, whole and in two pieces."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_elu.steps.pieces import Kind

ROWS, FIRST = 5, 2  # rows of the trial, and of its first piece
_LENGTH = 8  # of a dimension whose length is not fixed


def kind(whole, parts: Sequence, shares: Sequence[float]) -> Kind | None:
    """Returns how a value for a whole batch follows from those for its parts; None: in no way."""
    if not np.all(np.isfinite(whole)):
        return None
    if close(whole, sum(share * part for share, part in zip(shares, parts, strict=True))):
        return "mean"
    return "sum" if close(whole, sum(parts)) else None


def close(a, b) -> bool:
    """Whether two values agree to rounding in float32."""
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-4, atol=1e-5)


def whole_and_parts(function: Callable, rows) -> list:
    """Returns a function of all rows, of the first ones and of the rest."""

    def cut(begin, end):
        return tf.nest.map_structure(lambda t: None if t is None else t[begin:end], rows)

    return [function(cut(*ends)) for ends in ((0, ROWS), (0, FIRST), (FIRST, ROWS))]


def _shape(spec) -> list[int]:
    return [ROWS, *(length or _LENGTH for length in spec.shape[1:])]


def random(spec: tf.TypeSpec | None):
    """Returns random rows of a data type and a shape."""
    if spec is None:
        return None
    if not isinstance(spec, tf.TensorSpec):
        raise TypeError("no random rows of this type")
    if spec.dtype.is_floating:
        return tf.cast(tf.constant(_draws().normal(size=_shape(spec))), spec.dtype)
    if spec.dtype == tf.string:
        return tf.fill(_shape(spec), "a")
    return tf.cast(tf.constant(_draws().integers(0, 2, _shape(spec))), spec.dtype)


def _draws() -> np.random.Generator:
    return np.random.default_rng(7)


def uniform(spec: tf.TensorSpec | None):
    """Returns random rows between 0 and 1."""
    if spec is None:
        return None
    return tf.cast(tf.constant(_draws().uniform(0.1, 0.9, _shape(spec))), spec.dtype)


def probabilities(spec: tf.TensorSpec):
    """Returns random rows that add up to 1, which most losses take as predictions."""
    values = uniform(spec)
    if values.shape[-1] > 1 and len(values.shape) > 1:
        values /= tf.reduce_sum(values, -1, keepdims=True)
    return values


def labels(y_true: tf.TypeSpec | Sequence, y_pred, one_hot: bool = True):
    """Returns classes where the predictions have one more dimension, else zeros and ones."""

    def label(true, predicted):
        if true is None:
            return None
        shape = _shape(true)
        classes = predicted.shape[-1] if len(predicted.shape) > 1 else 2
        fewer = len(shape) < len(predicted.shape) or shape[-1] == 1
        draws = np.random.default_rng(8)
        if fewer and classes > 1:
            values = draws.integers(0, classes, shape)
        elif one_hot and len(shape) > 1 and shape[-1] > 1:
            values = np.eye(shape[-1])[draws.integers(0, shape[-1], shape[:-1])]
        else:
            values = draws.integers(0, 2, shape)
        return tf.cast(tf.constant(values), true.dtype)

    flat = tf.nest.flatten(y_pred)
    found = [
        label(true, flat[min(place, len(flat) - 1)])
        for place, true in enumerate(tf.nest.flatten(y_true))
    ]
    return tf.nest.pack_sequence_as(y_true, found)
