"""Activations and gradients during training, observed without changing it."""

import keras
import numpy as np
import tensorflow as tf

from keras_elu import diagnostics

_BINS = 30  # as in TensorBoard's own histograms


class Probe:
    """The activations and gradients of a training step on a few fixed images.

    The probe computes them on one device from the current weights. It changes neither the weights
    nor the stream of batches, and a resumed run observes the same values.

    Args:
        model: A compiled functional model.
        x: The input, a few rows of a batch.
        y: The targets of these rows.

    Attributes:
        scalars: Tags of the numbers: the mean and the saturated share of each activation layer.
        histograms: Tags of the histograms: the activations of each activation layer, and the
            gradient of the loss by each trainable variable.
    """

    def __init__(self, model: keras.Model, x, y):
        self._model, self._rows = model, (x, y)
        self._observer = diagnostics.observer(model)
        self._activations = diagnostics.activations(model)
        names = [layer.name for layer in self._activations]
        self.scalars = [f"{of}/{n}" for n in names for of in ("activation_mean", "saturated_share")]
        self.histograms = [f"activations/{name}" for name in names]
        self.histograms += [f"gradients/{weight.path}" for weight in model.trainable_variables]
        self._function = tf.function(self._values, autograph=False)

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers, of shape (n,), and the histograms, of shape (n, bins, 3).

        A bin is its left edge, its right edge and its count.
        """
        scalars, histograms = self._function(*self._rows)
        return scalars.numpy(), histograms.numpy()

    def _values(self, x, y):
        model = self._model
        weights = model.trainable_variables
        variables = [*weights, *model.non_trainable_variables]
        tensors = [tf.convert_to_tensor(variable.value) for variable in variables]
        # Updates of counters and moving averages stay in the scope.
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            keras.StatelessScope(list(zip(variables, tensors, strict=True))),
        ):
            tape.watch(tensors[: len(weights)])
            outputs, observed = self._observer(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, training=True)
            with tape.stop_recording():
                pairs = zip(self._activations, observed, strict=True)
                numbers = [n for layer, io in pairs for n in diagnostics.numbers(layer, *io)]
            scale = model.optimizer.scale_loss(tf.ones_like(loss))  # float16
            objective = loss * scale
        gradients = tape.gradient(objective, tensors[: len(weights)], unconnected_gradients="zero")
        gradients = [tf.cast(gradient, "float32") / scale for gradient in gradients]
        shown = [*(output for _, output in observed), *gradients]
        return tf.stack(numbers), tf.stack([_histogram(values) for values in shown])


def _histogram(values: tf.Tensor) -> tf.Tensor:
    values = tf.reshape(tf.cast(values, "float32"), [-1])
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    high = tf.maximum(high, low + tf.maximum(tf.abs(low) * 1e-6, 1e-30))
    edges = tf.linspace(low, high, _BINS + 1)
    counts = tf.histogram_fixed_width(values, [low, high], _BINS)
    return tf.stack([edges[:-1], edges[1:], tf.cast(counts, "float32")], 1)
