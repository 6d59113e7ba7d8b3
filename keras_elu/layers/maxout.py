"""Maxout units."""

import numbers

import keras


@keras.saving.register_keras_serializable("keras_elu")
class Maxout(keras.layers.Layer):
    """Maximum over pieces, which makes a dense or convolutional layer before it a maxout layer.

    `y[..., u] = max(x[..., u * pieces], ..., x[..., u * pieces + pieces - 1])`.

    Args:
        pieces: Number of neighbouring features of which each unit is the maximum, 2 or more.

    Input and output shape:
        `(..., units * pieces)`; `(..., units)`. Dtype passes through.

    Raises:
        ValueError: If `pieces` is not a whole number from 2, or does not divide the features.

    Example:

    >>> Maxout(pieces=2)(np.array([[1.0, 5.0, -3.0, -2.0]])).numpy().tolist()
    [[5.0, -2.0]]

    Reference:
        [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389), section 3.
    """

    def __init__(self, pieces: int = 2, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(pieces, numbers.Integral) or isinstance(pieces, bool) or pieces < 2:
            raise ValueError(f"pieces={pieces!r}: give a whole number, 2 or larger.")
        self.pieces = int(pieces)

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # checks that the pieces divide the features
        self.built = True

    def call(self, x):
        if not keras.backend.is_float_dtype(x.dtype):
            x = keras.ops.cast(x, self.compute_dtype)
        *leading, features = keras.ops.shape(x)
        pieces = keras.ops.reshape(x, (*leading, features // self.pieces, self.pieces))
        return keras.ops.max(pieces, axis=-1)

    def compute_output_shape(self, input_shape):
        *leading, features = input_shape
        if features is None or features % self.pieces:
            raise ValueError(
                f"The input has {features} features: give a multiple of pieces={self.pieces}."
            )
        return (*leading, features // self.pieces)

    def get_config(self):
        return {**super().get_config(), "pieces": self.pieces}
