"""The exponential linear unit."""

import math
import numbers

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from keras_elu.layers import exponential


@keras.saving.register_keras_serializable("keras_elu")
class ELU(keras.layers.Layer):
    """Exponential linear unit.

    `f(x) = x` for `x > 0`, and `alpha * (exp(x) - 1)` for `x <= 0`, elementwise. A drop-in for
    `keras.layers.ELU`.

    Outputs and gradients are the correctly rounded ones to 1 unit in the last place in float16 and
    bfloat16, and to 8 in float32, where numbers too small to be normal count as 0. For this the
    backward pass keeps `x`: the output alone, which `keras.layers.ELU` keeps, no longer determines
    the gradient where it is within rounding of `-alpha`. On TensorFlow each pass is compiled by
    XLA, also in a model that is not, and costs about one reading and writing of the tensors; on a
    CPU in bfloat16, where exactness is more work than that, 0.7 to 1.8 times what Keras's takes.

    Args:
        alpha: Positive number, or a schedule: a `keras.optimizers.schedules.LearningRateSchedule`,
            such as those of `keras_elu.schedules`, of the number of training steps this layer has
            done. The layer counts them itself, one at each call with `training=True`, in the
            variable `step`, and keeps the value of the latest in the variable `alpha`, which
            evaluation uses; both are saved with the model. Outputs of very negative inputs approach
            `-alpha`.

    Input and output shape:
        Any; dtype and masks pass through.

    Raises:
        ValueError: If `alpha` is neither a positive finite number nor a schedule.

    Example:

    >>> ELU(alpha=0.5)(np.array([-1000.0, 0.0, 2.0])).numpy().tolist()
    [-0.5, 0.0, 2.0]

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 3.
    """

    def __init__(self, alpha: float | LearningRateSchedule = 1.0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(alpha, dict):
            alpha = keras.saving.deserialize_keras_object(alpha)
        self.schedule = alpha if isinstance(alpha, LearningRateSchedule) else None
        if self.schedule is None:
            self._alpha = positive_number(alpha, "alpha", "or a schedule")
        else:
            start = float(keras.ops.convert_to_numpy(self.schedule(0)))
            positive_number(start, "alpha at step 0")
            self.step = self._state("step", 0, "int")
            self._alpha = self._state("alpha", start, "float32")
        self.supports_masking = True
        self.built = type(self).build is keras.layers.Layer.build  # a subclass may add its own

    def _state(self, name, start, dtype):
        """A variable of which every replica updates its own copy, all alike."""
        return keras.Variable(
            start,
            dtype=dtype,
            trainable=False,
            autocast=False,
            synchronization="on_read",
            aggregation="only_first_replica",
            name=name,
        )

    @property
    def alpha(self) -> float | keras.Variable:
        """The number, or the variable that follows the schedule."""
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        # Compiled steps would go on with the old number.
        raise AttributeError("alpha is fixed when the layer is made: give it a schedule to change.")

    def call(self, x, training=None):
        if self.schedule is not None and training:
            self.alpha.assign(keras.ops.cast(self.schedule(self.step.value), "float32"))
            self.step.assign_add(1)
        if not keras.backend.is_float_dtype(x.dtype):
            x = keras.ops.cast(x, self.compute_dtype)
        return exponential.elu(x, self.alpha)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        alpha = self.alpha if self.schedule is None else self.schedule
        return {**super().get_config(), "alpha": keras.saving.serialize_keras_object(alpha)}


def positive_number(value, name: str, alternative: str = "") -> float:
    """Returns `value` as a float, or raises a ValueError that names it."""
    number = isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0)
    if not number or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise ValueError(
            f"{name} must be a positive finite number{alternative and ' ' + alternative}; "
            f"received {value!r}."
        )
    return float(value)
