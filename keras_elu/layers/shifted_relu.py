"""The shifted rectifier, a baseline of the paper."""

import keras


@keras.saving.register_keras_serializable("keras_elu")
class ShiftedReLU(keras.layers.Layer):
    """Rectified linear unit shifted down the diagonal by one.

    `f(x) = max(x, -1)`, elementwise; the gradient is 1 for `x > -1` and 0 elsewhere. The paper
    calls it SReLU, an abbreviation that the unrelated S-shaped unit has too.

    Input and output shape:
        Any; dtype and masks pass through.

    Example:

    >>> ShiftedReLU()(np.array([-3.0, -0.5, 2.0])).numpy().tolist()
    [-1.0, -0.5, 2.0]

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, x):
        if not keras.backend.is_float_dtype(x.dtype):
            x = keras.ops.cast(x, self.compute_dtype)
        return keras.ops.maximum(x, -1)

    def compute_output_shape(self, input_shape):
        return input_shape
