"""A look into the layers during training, which changes nothing."""

import keras
import numpy as np
import tensorflow as tf

from keras_elu import diagnostics

_BINS = 30  # as TensorBoard's own


class Probe:
    """What a step of training would see on a few images, always the same.

    It is a computation of its own on one device, from the weights as they are: neither the step nor
    the stream of batches knows of it, and a run that goes on sees the same again.

    Args:
        model: A compiled functional model.
        x: Its input, a few rows of a batch.
        y: What they are to give.

    Attributes:
        scalars: Tags of the numbers that a look gives: by activation layer the mean, and the share
            that is saturated.
        histograms: Tags of its histograms: of the activations by layer, and of the gradient of the
            loss by variable.
    """

    def __init__(self, model: keras.Model, x, y):
        self._model, self._rows = model, (x, y)
        self._observer = diagnostics.observer(model)
        self._activations = diagnostics.activations(model)
        names = [layer.name for layer in self._activations]
        self.scalars = [f"{of}/{n}" for n in names for of in ("activation_mean", "saturated_share")]
        self.histograms = [f"activations/{name}" for name in names]
        self.histograms += [f"gradients/{weight.path}" for weight in model.trainable_variables]
        self._look = tf.function(self._seen, autograph=False)

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers (n,), and the histograms (n, bins, 3): left, right and count."""
        scalars, histograms = self._look(*self._rows)
        return scalars.numpy(), histograms.numpy()

    def _seen(self, x, y):
        model = self._model
        weights = model.trainable_variables
        variables = [*weights, *model.non_trainable_variables]
        tensors = [tf.convert_to_tensor(variable.value) for variable in variables]
        # What the call would change, as counters and moving averages, stays in the scope.
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            keras.StatelessScope(list(zip(variables, tensors, strict=True))),
        ):
            tape.watch(tensors[: len(weights)])
            outputs, seen = self._observer(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, training=True)
            with tape.stop_recording():
                pairs = zip(self._activations, seen, strict=True)
                numbers = [n for layer, io in pairs for n in diagnostics.numbers(layer, *io)]
            scale = model.optimizer.scale_loss(tf.ones_like(loss))  # small ones are 0 in float16
            objective = loss * scale
        gradients = tape.gradient(objective, tensors[: len(weights)], unconnected_gradients="zero")
        gradients = [tf.cast(gradient, "float32") / scale for gradient in gradients]
        shown = [*(output for _, output in seen), *gradients]
        return tf.stack(numbers), tf.stack([_histogram(values) for values in shown])


def _histogram(values: tf.Tensor) -> tf.Tensor:
    values = tf.reshape(tf.cast(values, "float32"), [-1])
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    high = tf.maximum(high, low + tf.maximum(tf.abs(low) * 1e-6, 1e-30))
    edges = tf.linspace(low, high, _BINS + 1)
    counts = tf.histogram_fixed_width(values, [low, high], _BINS)
    return tf.stack([edges[:-1], edges[1:], tf.cast(counts, "float32")], 1)
