"""Global contrast normalisation, as a layer."""

import math
import numbers

import keras


@keras.saving.register_keras_serializable("keras_elu")
class ContrastNormalization(keras.layers.Layer):
    """Subtracts each image's mean, divides by its L2 norm, and multiplies by `scale`.

    Args:
        scale: Positive number: the norm of an image afterwards.

    Input and output shape:
        Both `(batch, height, width, channels)`. A constant image becomes zero.

    Raises:
        ValueError: If `scale` is not a positive finite number.

    Example:

    >>> image = np.array([1.0, 7.0]).reshape(1, 1, 2, 1)
    >>> ContrastNormalization(scale=2 ** 0.5)(image).numpy().ravel().round(6).tolist()
    [-1.0, 1.0]

    Reference:
        [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389), section 5.2.
    """

    def __init__(self, scale: float = 55.0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(scale, numbers.Real) or not 0 < scale < math.inf:
            raise ValueError(f"scale={scale!r}: give a positive finite number.")
        self.scale = float(scale)
        self.built = True

    def call(self, x):
        x = keras.ops.cast(x, self.compute_dtype)
        x = x - keras.ops.mean(x, axis=(1, 2, 3), keepdims=True)
        norm = keras.ops.sqrt(keras.ops.sum(keras.ops.square(x), axis=(1, 2, 3), keepdims=True))
        return x * (self.scale / keras.ops.where(norm < 1e-8, 1.0, norm))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
