"""Exponential linear units that learn their shape."""

import keras

from keras_elu.layers import exponential
from keras_elu.layers.elu import positive_number


@keras.saving.register_keras_serializable("keras_elu")
class ParametricELU(keras.layers.Layer):
    """Exponential linear unit that learns `alpha`, and `scale` where it is given.

    `f(x) = x` for `x > 0`, and `alpha * (exp(x) - 1)` for `x <= 0`, elementwise. With a scale,
    `f(x) = alpha / scale * x` for `x > 0`, and `alpha * (exp(x / scale) - 1)` for `x <= 0`: PELU.

    Both stay at 0.1 or more. Exclude them from weight decay, which would pull them to 0:
    `optimizer.exclude_from_weight_decay(var_names=["alpha", "scale"])`.

    Args:
        alpha: Positive number from which alpha is learnt.
        scale: Positive number from which the scale is learnt, or None to have none.
        shared_axes: Axes along which the parameters are shared, as in `keras.layers.PReLU`:
            `[1, 2]` for one a channel of an image, `[]` for one an element. By default all axes:
            one a layer.

    Input and output shape:
        Any; where parameters are not shared along an axis, its size must be known. Dtype and masks
        pass through.

    Raises:
        ValueError: If `alpha` or `scale` is not a positive finite number, or `shared_axes` names an
            axis that the input does not have or the size of an axis is needed and unknown.

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
        if self.initial_scale is None:
            return exponential.elu(x, self.alpha, learn_alpha=True)
        z = keras.ops.cast(x, self.variable_dtype) / self.scale
        return keras.ops.cast(self.alpha * exponential.elu(z, 1.0), x.dtype)

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
