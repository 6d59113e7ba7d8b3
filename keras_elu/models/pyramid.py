"""Spatial pyramid pooling, which turns feature maps of any size into a fixed number of values."""

from collections.abc import Sequence

import keras

from keras_elu.models import units


@keras.saving.register_keras_serializable("keras_elu")
class SpatialPyramidPooling2D(keras.layers.Layer):
    """Maximum over each bin of several grids, one grid per level, for feature maps of any size.

    A grid with `n` bins per side divides a side of `s` positions into bins from `floor(i s / n)` to
    `ceil((i + 1) s / n)`. The bins cover the map, overlap unless `n` divides `s`, and are never
    empty, even if the map is smaller than the grid. `keras.layers.AdaptiveMaxPooling2D` has the
    same bins for one grid, but it needs a known size, and aborts the process on a map of one pixel.

    Args:
        levels: Number of bins per side of each grid, positive. The paper has three levels, but does
            not give their bins.

    Input and output shape:
        `(batch, height, width, channels)`, where all but the channels may be unknown;
        `(batch, bins, channels)`, level by level and row by row, with 21 bins for 1, 2 and 4.

    Raises:
        ValueError: If `levels` is not a list of positive whole numbers.

    Example:

    >>> x = np.arange(16).reshape(1, 4, 4, 1)
    >>> SpatialPyramidPooling2D([1, 2])(x).numpy().ravel().tolist()
    [15, 5, 7, 13, 15]

    Reference:
        [He et al., 2014](https://arxiv.org/abs/1406.4729), section 2.2.
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), **kwargs):
        super().__init__(**kwargs)
        if (
            not isinstance(levels, (list, tuple))
            or not levels
            or not all(map(units.is_positive, levels))
        ):
            raise ValueError(f"levels={levels!r}: give a list of positive whole numbers.")
        self.levels = tuple(int(level) for level in levels)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.built = True

    def call(self, inputs):
        _, height, width, _ = keras.ops.shape(inputs)
        bins = []
        for level in self.levels:
            rows = [inputs[:, a:b] for a, b in _edges(height, level)]
            for row in (keras.ops.max(row, axis=1) for row in rows):
                bins += [keras.ops.max(row[:, a:b], axis=1) for a, b in _edges(width, level)]
        return keras.ops.stack(bins, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], sum(level**2 for level in self.levels), input_shape[3])

    def get_config(self):
        return {**super().get_config(), "levels": list(self.levels)}


def _edges(side, level):
    # Not -(-x // level) for rounding up: ONNX rounds negative quotients towards 0.
    return [(i * side // level, ((i + 1) * side + level - 1) // level) for i in range(level)]
