"""Max-pooling with partial windows, and fractional max-pooling."""

import math
import numbers

import keras


@keras.saving.register_keras_serializable("keras_elu")
class CeilMaxPooling2D(keras.layers.Layer):
    """Max-pooling that starts at the first row and column and keeps partial windows at the end.

    The output has `ceil((side - size) / strides) + 1` positions per side, as in Caffe and
    cuda-convnet. `keras.layers.MaxPooling2D` either drops partial windows ("valid"), or may start
    before the first row and give one position more ("same").

    Args:
        size: Height and width of the windows, positive.
        strides: Distance between windows, from 1 to `size`.

    Input and output shape:
        `(batch, height, width, channels)`, where height and width are known; the same with the
        height and width of the output.

    Raises:
        ValueError: If an argument is out of its range, or the height or width is unknown.

    Example:

    >>> CeilMaxPooling2D(4, 2)(np.arange(25.0).reshape(1, 5, 5, 1)).numpy().ravel().tolist()
    [18.0, 19.0, 23.0, 24.0]

    Reference:
        [Goodfellow et al., 2013](https://arxiv.org/abs/1302.4389), whose code pools in this way.
    """

    def __init__(self, size: int, strides: int, **kwargs):
        super().__init__(**kwargs)
        if not _is_whole(size) or not _is_whole(strides) or not 1 <= strides <= size:
            raise ValueError(
                f"size={size!r}, strides={strides!r}: give whole numbers with 1 <= strides <= size."
            )
        self.size, self.strides = int(size), int(strides)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # checks that the sides are known
        self.built = True

    def call(self, x):
        _, *outputs, _ = self.compute_output_shape(x.shape)
        for axis, count in enumerate(outputs, start=1):
            side = x.shape[axis]
            missing = (count - 1) * self.strides + self.size - side
            if missing > 0:  # the last row again leaves the maximum of a window as it is
                last = keras.ops.take(x, [side - 1] * missing, axis=axis)
                x = keras.ops.concatenate([x, last], axis=axis)
        return keras.ops.max_pool(
            x, self.size, self.strides, padding="valid", data_format="channels_last"
        )

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        sides = [
            max(0, math.ceil((side - self.size) / self.strides)) + 1
            for side in _known(sides, "CeilMaxPooling2D")
        ]
        return (batch, *sides, channels)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "strides": self.strides}


@keras.saving.register_keras_serializable("keras_elu")
class FractionalMaxPooling2D(keras.layers.Layer):
    """Max-pooling by a factor that need not be whole, over overlapping pseudo-random regions.

    A side of `n` positions becomes one of `m = round(n / ratio)`. Region `i` is `size` positions
    long, and starts at `floor(a (i + u)) - floor(a u)` with `a = (n - size) / (m - 1)`, or for the
    last region at `n - size`. In training, `u` is drawn from 0 to 1 in every call, for rows and for
    columns; all images of a call share the regions. Otherwise `u` is 1/2, which makes outputs
    repeatable. The regions are those of `torch.nn.FractionalMaxPool2d`. TensorFlow's own operation
    has no kernel for GPUs and XLA; this layer runs on every backend, with XLA and without.

    Args:
        ratio: Number from 1 up to, but not including, `size`.
        size: Height and width of the regions, 2 or larger.
        seed: Whole number, or None for Keras's global seed. Equal seeds give equal regions.

    Input and output shape:
        `(batch, height, width, channels)`, where height and width are known;
        `(batch, round(height / ratio), round(width / ratio), channels)`.

    Raises:
        ValueError: If an argument is out of its range, or the height or width is unknown, below
            `size`, or too small for the regions to cover it.

    Example:

    >>> pool = FractionalMaxPooling2D(ratio=2 ** (1 / 3))
    >>> pool(np.arange(16.0).reshape(1, 4, 4, 1)).numpy()[0, :, :, 0].tolist()
    [[5.0, 6.0, 7.0], [9.0, 10.0, 11.0], [13.0, 14.0, 15.0]]

    Reference:
        [Graham, 2014](https://arxiv.org/abs/1412.6071), section 2.
    """

    def __init__(self, ratio: float, size: int = 2, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not _is_whole(size) or size < 2:
            raise ValueError(f"size={size!r}: give a whole number, 2 or larger.")
        if not isinstance(ratio, numbers.Real) or not 1 <= ratio < size:
            raise ValueError(f"ratio={ratio!r}: give a number from 1 to below size={size}.")
        self.ratio, self.size, self.seed = float(ratio), int(size), seed
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        outputs = self.compute_output_shape(input_shape)
        self._sides = [*zip(input_shape[1:3], outputs[1:3], strict=True)]
        # With a whole step there is only one way to place the regions.
        random = any((n - self.size) % max(m - 1, 1) for n, m in self._sides)
        self.seed_generator = keras.random.SeedGenerator(self.seed) if random else None
        self.built = True

    def call(self, x, training=None):
        offsets = [0.5, 0.5]
        if training and self.seed_generator is not None:
            drawn = keras.random.uniform((2,), dtype="float32", seed=self.seed_generator)
            offsets = [drawn[0], drawn[1]]
        for axis, ((n, m), u) in enumerate(zip(self._sides, offsets, strict=True), start=1):
            first = self._starts(n, m, u)
            rows = [keras.ops.take(x, first + k, axis=axis) for k in range(self.size)]
            # Not keras.ops.maximum, which turns float64 into float32 on PyTorch.
            x = keras.ops.max(keras.ops.stack(rows), axis=0)
        return x

    def _starts(self, n, m, u):
        """The first position of each region."""
        if m == 1:
            return keras.ops.zeros((1,), "int32")
        step = (n - self.size) / (m - 1)
        u = keras.ops.convert_to_tensor(u, "float32")
        places = keras.ops.arange(m - 1, dtype="float32")
        first = keras.ops.floor(step * (places + u)) - keras.ops.floor(step * u)
        # Rounding must not move a region beyond the end.
        first = keras.ops.clip(keras.ops.cast(first, "int32"), 0, n - self.size)
        last = keras.ops.full((1,), n - self.size, "int32")
        return keras.ops.concatenate([first, last])

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        outputs = [round(n / self.ratio) for n in _known(sides, "FractionalMaxPooling2D")]
        for n, m in zip(sides, outputs, strict=True):
            if n < self.size or m * self.size < n:
                raise ValueError(
                    f"{m} regions of {self.size} positions cannot cover {n}: give larger images, a "
                    "smaller ratio, or a larger size."
                )
        return (batch, *outputs, channels)

    def get_config(self):
        own = {"ratio": self.ratio, "size": self.size, "seed": self.seed}
        return {**super().get_config(), **own}


def _is_whole(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _known(sides, layer):
    if None in sides:
        raise ValueError(f"{layer} needs images of a known height and width, not {tuple(sides)}.")
    return sides
