"""Spatial pyramid pooling, for images of any size before a layer of fixed size."""

from collections.abc import Sequence

import keras

from keras_elu.models import units


@keras.saving.register_keras_serializable("keras_elu")
class SpatialPyramidPooling2D(keras.layers.Layer):
    """Maxima over the bins of several grids, one grid a level, laid over a map of any size.

    A grid of `n` splits a side of `s` into bins `i` from `floor(i s / n)` to `ceil((i + 1) s / n)`:
    they cover the map, overlap where `n` does not divide `s`, and are never empty, so that a map
    may be smaller than the grid. `keras.layers.AdaptiveMaxPooling2D` has the same bins for one
    grid, but needs a known size, and stops the process on a map of one pixel.

    Args:
        levels: Bins a side of each grid, positive; the paper's three levels are taken as 1, 2, 4.

    Input and output shape:
        `(batch, height, width, channels)`, where any but the channels may be unknown, and
        `(batch, bins, channels)`: level by level, row by row. 21 bins for the levels 1, 2 and 4.

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
    return [(i * side // level, -(-(i + 1) * side // level)) for i in range(level)]
