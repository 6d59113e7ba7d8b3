"""Trials of a function on a few random rows, whole and in two pieces."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_elu.steps.isolated import outside
from keras_elu.steps.origin import ON_ONE
from keras_elu.steps.pieces import Kind

ROWS, FIRST = 5, 2  # rows of the trial, and of its first piece


def kind(whole, parts: Sequence, shares: Sequence[float], tolerance: float = 1e-4) -> Kind | None:
    """Returns how the value of a batch follows from those of its parts; None: it does not."""
    if not np.all(np.isfinite(whole)):
        return None
    if close(whole, sum(s * part for s, part in zip(shares, parts, strict=True)), tolerance):
        return "mean"
    return "sum" if close(whole, sum(parts), tolerance) else None


def close(a, b, tolerance: float = 1e-4) -> bool:
    """Returns whether two values are equal up to rounding."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not np.issubdtype(a.dtype, np.floating):
        return np.array_equal(a, b)
    largest = np.max(np.abs(a), initial=0, where=np.isfinite(a))
    return np.allclose(a, b, tolerance, 1e-6 + 0.1 * tolerance * largest, equal_nan=True)


def tolerance(layers: Iterable[keras.Layer]) -> float:
    """Returns the relative error of rounding in the outputs of layers."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)
    return 3e-2 if half else 1e-4


def attempt(name: str, function: Callable, *arguments):
    """Calls a function outside every strategy; an error becomes one sentence about `name`."""
    try:
        return outside(function, *arguments)
    except Exception as error:
        reason = first_line(error)
        raise ValueError(f"{name} failed for random rows ({reason}): {ON_ONE}.") from error


def first_line(error: BaseException) -> str:
    """Returns the beginning of an error's text, to be quoted in a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return textwrap.shorten(text, 100).rstrip(".")


def cut(rows, begin: int, end: int):
    """Returns some of the rows of nested tensors."""
    return tf.nest.map_structure(lambda t: None if t is None else t[begin:end], rows)


def whole_and_parts(function: Callable, rows) -> list:
    """Returns the values of a function for all rows, the first rows and the others."""
    return [function(cut(rows, *ends)) for ends in ((0, ROWS), (0, FIRST), (FIRST, ROWS))]


def _shape(spec, length: int = 8) -> list[int]:
    return [ROWS, *(known or length for known in spec.shape[1:])]


def random(spec: tf.TypeSpec | None, length: int = 8):
    """Returns random rows, with a length for the dimensions whose length is not fixed."""
    if spec is None:
        return None
    if not isinstance(spec, tf.TensorSpec):
        raise TypeError("no random rows of this type")
    if spec.dtype.is_floating:
        return tf.cast(tf.constant(_draws().normal(size=_shape(spec, length))), spec.dtype)
    if spec.dtype == tf.string:
        return tf.fill(_shape(spec, length), "a")
    return tf.cast(tf.constant(_draws().integers(0, 2, _shape(spec, length))), spec.dtype)


def _draws() -> np.random.Generator:
    return np.random.default_rng(7)


def uniform(spec: tf.TensorSpec | None):
    """Returns random rows between 0 and 1."""
    if spec is None:
        return None
    return tf.cast(tf.constant(_draws().uniform(0.1, 0.9, _shape(spec))), spec.dtype)


def probabilities(spec: tf.TensorSpec):
    """Returns random rows that add up to 1, which most losses accept as predictions."""
    values = uniform(spec)
    if values.shape[-1] > 1 and len(values.shape) > 1:
        values /= tf.reduce_sum(values, -1, keepdims=True)
    return values


def labels(y_true, y_pred, one_hot: bool = True, real: bool = False):
    """Returns labels that suit predictions: classes, one-hot rows, zeros and ones, or any numbers.

    Args:
        y_true: Nested `tf.TypeSpec`s of labels.
        y_pred: Nested `tf.TypeSpec`s of predictions.
        one_hot: Whether rows of numbers are one-hot.
        real: Whether rows of floating numbers are normally distributed.
    """

    def label(true, predicted):
        if true is None:
            return None
        shape = _shape(true)
        classes = predicted.shape[-1] if len(predicted.shape) > 1 else 2
        fewer = len(shape) < len(predicted.shape) or shape[-1] == 1
        draws = np.random.default_rng(8)
        if real and true.dtype.is_floating:
            values = draws.normal(size=shape)
        elif fewer and classes > 1:
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


def labels_and_predictions(y_true, y_pred) -> Iterator[tuple]:
    """Yields labels and predictions of several sorts, for `tf.TypeSpec`s of both.

    A loss may be a mean for one sort only: Dice is for one-hot labels, |mean - 1| where all errors
    are large, and a mean over valid labels where all are valid.
    """
    yield labels(y_true, y_pred), tf.nest.map_structure(probabilities, y_pred)
    yield labels(y_true, y_pred, one_hot=False), tf.nest.map_structure(uniform, y_pred)
    yield labels(y_true, y_pred, real=True), tf.nest.map_structure(uniform, y_pred)
    for void in (np.nan, -1, -100, 255):
        some = tf.nest.map_structure(
            lambda label: _partly(label, void),  # noqa: B023
            labels(y_true, y_pred, real=True),
        )
        yield some, tf.nest.map_structure(uniform, y_pred)
    true = labels(y_true, y_pred, one_hot=False)
    pairs = zip(tf.nest.flatten(true), tf.nest.flatten(y_pred), strict=True)
    right = [_predicted(label, predicted) for label, predicted in pairs]
    first = np.arange(ROWS) < FIRST
    for second in ([1 - p for p in right], [abs(p - 0.1) for p in right]):
        rows = [
            np.where(first.reshape(-1, *[1] * (p.ndim - 1)), p, q)
            for p, q in zip(right, second, strict=True)
        ]
        flat = zip(rows, tf.nest.flatten(y_pred), strict=True)
        rows = [tf.cast(tf.constant(np.clip(p, 0.01, 0.99)), of.dtype) for p, of in flat]
        yield true, tf.nest.pack_sequence_as(y_pred, rows)


def _partly(label: tf.Tensor, void: float) -> tf.Tensor:
    """Returns labels with a mark for void ones in every other place of the first piece."""
    floating = label.dtype.is_floating
    values = label.numpy().astype("float64" if floating else "int64")
    values[:FIRST].reshape(-1)[::2] = void if floating or np.isfinite(void) else -1
    return tf.cast(tf.constant(values), label.dtype)


def _predicted(label: tf.Tensor, predicted: tf.TensorSpec) -> np.ndarray:
    """Returns the predictions that are equal to labels of zeros and ones, or of classes."""
    shape, values = _shape(predicted), label.numpy().astype("float64")
    if values.size == np.prod(shape):
        return values.reshape(shape)
    return np.eye(shape[-1])[values.astype(int)].reshape(shape)
