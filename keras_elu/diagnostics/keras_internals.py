"""The private name of Keras that float64 needs on JAX and PyTorch.

Keras computes products and means of float64 tensors in float32 there
(https://github.com/keras-team/keras/issues/23704).
"""

import contextlib
from collections.abc import Iterator

import keras

_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))


@contextlib.contextmanager
def float64_kept() -> Iterator[None]:
    """Makes operations on float64 tensors return float64 in the block, on every backend."""
    if keras.backend.backend() == "tensorflow":
        yield
        return
    if not (3, 14) <= _VERSION <= (3, 15):
        raise ImportError(
            f"float64 diagnostics work with Keras 3.14 and 3.15, not {keras.__version__}: install "
            "'keras>=3.14,<3.16', or use TensorFlow."
        )
    from keras.src.backend.common import dtypes

    narrowed = dtypes.BIT64_TO_BIT32_DTYPE["float64"]
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    try:
        yield
    finally:
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = narrowed
