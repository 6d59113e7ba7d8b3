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

    Outputs and gradients are within 1 unit in the last place of the correctly rounded ones in
    float16 and bfloat16, and within 8 in float32, at every normal number; numbers below 1.2e-38
    count as 0. The price is that the backward pass keeps `x`. `keras.layers.ELU` keeps the output,
    which no longer determines the gradient once it rounds to `-alpha`.

    On TensorFlow, XLA compiles each pass in eager calls and under a gradient tape, which makes
    training as fast as memory allows whether or not the model is compiled by XLA. Any other graph
    holds ordinary operations, so that every exporter and converter takes it. Without XLA these cost
    three to four times as much as Keras's single operation at `alpha=1`; compile such a graph with
    `jit_compile=True` where the speed of inference matters.

    Args:
        alpha: Positive number. Outputs of very negative inputs approach `-alpha`. Or a schedule: a
            `keras.optimizers.schedules.LearningRateSchedule`, such as those of
            `keras_elu.schedules`, of the number of training steps of this layer. The layer counts
            its calls with `training=True` in the variable `step`, and keeps the latest alpha in
            the variable `alpha`, which evaluation uses. Both are saved with the model.

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
        """A variable that every replica updates in the same way."""
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
        # Compiled steps would keep using the old number.
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
