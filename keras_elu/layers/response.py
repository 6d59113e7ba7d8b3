"""Local response normalisation within maps."""

import math
import numbers

import keras


@keras.saving.register_keras_serializable("keras_elu")
class ResponseNormalization2D(keras.layers.Layer):
    """Divides each value by the strength of its neighbours in the same map.

    `y = x / (1 + alpha / size**2 * s)**beta`, where `s` is the sum of `x**2` over the `size` by
    `size` window around the value, with zeros outside the map. Caffe calls it `WITHIN_CHANNEL`.
    `tf.nn.local_response_normalization` is another function: it sums over neighbouring channels.

    Args:
        size: Height and width of the window, odd and positive.
        alpha: Positive number: the strength.
        beta: Positive number: the power.

    Input and output shape:
        Both `(batch, height, width, channels)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = ResponseNormalization2D(size=3, alpha=9.0, beta=1.0)
    >>> layer(np.ones((1, 2, 2, 1))).numpy().ravel().tolist()  # each has 4 neighbours: 1 / (1 + 4)
    [0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 0.20000000298023224]

    Reference:
        [Krizhevsky et al., 2012](https://papers.nips.cc/paper/4824), section 3.3, for the formula;
        [cuda-convnet](https://code.google.com/archive/p/cuda-convnet) for the sum within a map.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size % 2 != 1:
            raise ValueError(f"size={size!r}: give an odd whole number, 1 or larger.")
        for name, value in {"size": size, "alpha": alpha, "beta": beta}.items():
            if not isinstance(value, numbers.Real) or not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r}: give a positive finite number.")
        self.size, self.alpha, self.beta = int(size), float(alpha), float(beta)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.built = True

    def call(self, x):
        pad = self.size // 2
        squares = keras.ops.pad(keras.ops.square(x), [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        mean = keras.ops.average_pool(
            squares, self.size, strides=1, padding="valid", data_format="channels_last"
        )
        return x * (1 + self.alpha * mean) ** -self.beta

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}
