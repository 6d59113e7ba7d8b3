"""Exponential linear units with learnable parameters."""

import keras

from keras_elu.layers import exponential
from keras_elu.layers.elu import positive_number


@keras.saving.register_keras_serializable("keras_elu")
class ParametricELU(keras.layers.Layer):
    """Exponential linear unit that learns `alpha`, and optionally `scale`.

    `f(x) = x` for `x > 0`, and `alpha * (exp(x) - 1)` for `x <= 0`, elementwise. With a scale,
    `f(x) = alpha / scale * x` for `x > 0`, and `alpha * (exp(x / scale) - 1)` for `x <= 0`: PELU.

    A constraint keeps both at 0.1 or more. Exclude them from weight decay, which pulls them to 0:
    `optimizer.exclude_from_weight_decay(var_names=["alpha", "scale"])`.

    Args:
        alpha: Positive number: the initial alpha.
        scale: Positive number: the initial scale; or None for no scale.
        shared_axes: Axes that share parameters, as in `keras.layers.PReLU`: `[1, 2]` for one
            parameter per channel of an image, `[]` for one per element. By default all axes: one
            per layer.

    Input and output shape:
        Any; the size of an axis that does not share parameters must be known. Dtype and masks pass
        through.

    Raises:
        ValueError: If `alpha` or `scale` is not a positive finite number, or `shared_axes` names an
            axis that the input does not have, or an axis that needs a known size has none.

    Example:

    >>> layer = ParametricELU(alpha=2.0, shared_axes=[1, 2])
    >>> layer(np.full([1, 4, 4, 3], -1000.0)).numpy().min()
    np.float32(-2.0)
    >>> tuple(layer.alpha.shape)
    (1, 1, 3)

    Reference:
        [Trottier et al., 2016](https://arxiv.org/abs/1605.09332), for both parameters.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        scale: float | None = None,
        shared_axes: list[int] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.initial_alpha = positive_number(alpha, "alpha")
        self.initial_scale = None if scale is None else positive_number(scale, "scale", "or None")
        self.shared_axes = None if shared_axes is None else [int(axis) for axis in shared_axes]
        self.supports_masking = True

    def build(self, input_shape):
        rank = len(input_shape)
        shared = range(1, rank) if self.shared_axes is None else self.shared_axes
        if any(not 1 <= axis < rank for axis in shared):
            raise ValueError(
                f"shared_axes must lie between 1 and {rank - 1} for an input of shape "
                f"{tuple(input_shape)}; received {list(shared)}."
            )
        shape = tuple(1 if axis in shared else input_shape[axis] for axis in range(1, rank))
        if None in shape:
            raise ValueError(
                f"Axis {shape.index(None) + 1} of the input shape {tuple(input_shape)} has no "
                "known size: share the parameters along it with shared_axes."
            )
        self.alpha = self._add_parameter("alpha", self.initial_alpha, shape)
        if self.initial_scale is not None:
            self.scale = self._add_parameter("scale", self.initial_scale, shape)
        self.built = True

    def _add_parameter(self, name, start, shape):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.Constant(start),
            constraint=AtLeast(0.1),
            autocast=False,
        )

    def call(self, x):
        if not keras.backend.is_float_dtype(x.dtype):
            x = keras.ops.cast(x, self.compute_dtype)
        if self.initial_scale is None:
            return exponential.elu(x, self.alpha, learn_alpha=True)
        z = keras.ops.cast(x, self.variable_dtype) / self.scale
        y = self.alpha * exponential.elu(z, 1.0)
        return keras.ops.cast(y, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.initial_alpha,
            "scale": self.initial_scale,
            "shared_axes": self.shared_axes,
        }


@keras.saving.register_keras_serializable("keras_elu")
class AtLeast(keras.constraints.Constraint):
    """Raises every weight below `minimum` to it."""

    def __init__(self, minimum: float):
        self.minimum = minimum

    def __call__(self, w):
        return keras.ops.maximum(w, self.minimum)

    def get_config(self):
        return {"minimum": self.minimum}
