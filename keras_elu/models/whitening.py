"""Global contrast normalisation and ZCA whitening as a layer."""

import keras


@keras.saving.register_keras_serializable("keras_elu")
class Whitening(keras.layers.Layer):
    """Normalises the contrast of each image, and whitens it with a fitted matrix.

    An image `x`, as a vector less its mean, becomes `(contrast * x / |x| - mean) @ matrix`. A
    constant image counts as zero. Always computes in float32.

    Args:
        contrast: Norm of an image before the whitening, positive. 55 in the paper.

    Input and output shape:
        `(batch, height, width, channels)`, of a fixed size.

    Example:

    >>> layer = Whitening()
    >>> layer.build((None, 1, 2, 1))
    >>> layer.set_weights([np.zeros(2), np.eye(2)])  # what keras_elu.data fits to a data set
    >>> layer(np.array([[[[1], [7]]], [[[5], [5]]]])).numpy().round().reshape(2, 2).tolist()
    [[-39.0, 39.0], [0.0, 0.0]]

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 4.2, after
        [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389).
    """

    def __init__(self, contrast: float = 55.0, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.contrast = contrast
        self.supports_jit = True

    def build(self, input_shape):
        features = 1
        for side in input_shape[1:]:
            if side is None:
                raise ValueError(
                    f"Whitening was given images of shape {tuple(input_shape[1:])}: it needs a "
                    "fixed size."
                )
            features *= side
        self.mean = self.add_weight(
            shape=(features,), initializer="zeros", trainable=False, name="mean"
        )
        self.matrix = self.add_weight(
            shape=(features, features), initializer="zeros", trainable=False, name="matrix"
        )

    def call(self, images):
        x = keras.ops.cast(images, self.compute_dtype)
        x = keras.ops.reshape(x, (-1, self.mean.shape[0]))
        x = x - keras.ops.mean(x, axis=1, keepdims=True)
        norm = keras.ops.sqrt(keras.ops.sum(keras.ops.square(x), axis=1, keepdims=True))
        # The norm of bytes is 0, of a constant image, or almost 1 or more.
        x = self.contrast * x / keras.ops.maximum(norm, 1e-2)
        whitened = keras.ops.matmul(x - self.mean, self.matrix)
        return keras.ops.reshape(whitened, keras.ops.shape(images))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "contrast": self.contrast}
