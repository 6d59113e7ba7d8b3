"""Initial weights."""

import keras


def pytorch_default() -> keras.initializers.Initializer:
    """Returns what PyTorch starts its kernels with: uniform, with a variance of 1 / (3 fan-in).

    Example:

    >>> kernel = pytorch_default()((300, 200))  # between -1 / 300**0.5 and 1 / 300**0.5
    >>> round(float(abs(kernel.numpy()).max()), 3)
    0.058
    """
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


@keras.saving.register_keras_serializable("keras_elu")
class Dirac(keras.initializers.Initializer):
    """Filters of a convolution that copy its input channels, as many as there are.

    Filter `i` is 1 at the centre of channel `i` and 0 elsewhere. Filters beyond the number of input
    channels come from another initializer.

    Args:
        rest: The initializer of the other filters, for a kernel of this shape. None:
            `pytorch_default()`.

    Input and output shape:
        A shape `(..., input channels, filters)`; a kernel.

    Example:

    >>> Dirac()((3, 1, 2, 2))[:, 0].numpy().tolist()
    [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]

    Reference:
        [Zagoruyko and Komodakis, 2017](https://arxiv.org/abs/1706.00388), section 3;
        [Jordan, 2024](https://arxiv.org/abs/2404.00498), section 3.3.
    """

    def __init__(self, rest: keras.initializers.Initializer | str | None = None):
        self.rest = pytorch_default() if rest is None else keras.initializers.get(rest)

    def __call__(self, shape, dtype=None):
        *sizes, channels, filters = shape
        copies = min(channels, filters)
        copy = keras.ops.eye(channels, copies, dtype=dtype)
        for size in reversed(sizes):  # with zeros on both sides of the centre
            before = size // 2
            pads = [(before, size - 1 - before), *[(0, 0)] * len(copy.shape)]
            copy = keras.ops.pad(copy[None], pads)
        others = self.rest(shape, dtype=dtype)[..., copies:]
        return keras.ops.concatenate([copy, others], axis=-1)

    def get_config(self):
        return {"rest": keras.initializers.serialize(self.rest)}
