"""Stochastic gradient descent with a learning rate per variable."""

import math
import numbers
import re
from collections.abc import Mapping

import keras


@keras.saving.register_keras_serializable("keras_elu")
class ScaledSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with a factor on the learning rate of some variables.

    Args:
        multipliers: Factors, 0 or larger, by pattern. A variable has the factor of the first
            regular expression found in its path, such as "conv_1/kernel", and otherwise 1.
        **keywords: Those of `keras.optimizers.SGD`; with factors, none for clipping or weight
            decay. Weights can decay by a `kernel_regularizer` instead.

    Raises:
        ValueError: If a factor is not a finite number, 0 or larger, a pattern is no regular
            expression, or there are factors together with clipping or weight decay.

    Example:

    >>> optimizer = ScaledSGD({"bias": 2.0}, learning_rate=0.5)
    >>> dense = keras.layers.Dense(1, kernel_initializer="zeros")
    >>> dense.build((None, 1))
    >>> optimizer.build(dense.trainable_variables)
    >>> optimizer.apply([np.ones((1, 1)), np.ones(1)])
    >>> dense.kernel.numpy().tolist(), dense.bias.numpy().tolist()
    ([[-0.5]], [-1.0])
    """

    def __init__(self, multipliers: Mapping[str, float] | None = None, **keywords):
        super().__init__(**keywords)
        self.multipliers = dict(multipliers or {})
        for pattern, factor in self.multipliers.items():
            if not isinstance(factor, numbers.Real) or not 0 <= factor < math.inf:
                raise ValueError(
                    f"The factor of {pattern!r} is {factor!r}: give a finite number, 0 or larger."
                )
        try:
            self._patterns = [(re.compile(p), float(f)) for p, f in self.multipliers.items()]
        except re.error as error:
            raise ValueError(
                f"The pattern {error.pattern!r} is no regular expression ({error.msg})."
            ) from None
        for name in ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay"):
            if self.multipliers and (value := getattr(self, name)):
                raise ValueError(
                    f"Multipliers scale gradients, which {name}={value!r} would undo or bypass: "
                    f"leave out {name}, or the multipliers."
                )

    def build(self, variables):
        super().build(variables)
        self._factors = [self._factor(variable) for variable in variables]

    def apply(self, grads, trainable_variables=None):
        # Without clipping and weight decay, the update is linear in the gradient: a factor on it is
        # one on the learning rate. After layers were frozen, Keras gives the remaining variables.
        given = trainable_variables is not None
        factors = map(self._factor, trainable_variables) if given else self._factors
        grads = [
            grad if grad is None or factor == 1 else factor * grad
            for grad, factor in zip(grads, factors, strict=True)
        ]
        return super().apply(grads, trainable_variables)

    def _factor(self, variable) -> float:
        found = (factor for pattern, factor in self._patterns if pattern.search(variable.path))
        return next(found, 1.0)

    def get_config(self):
        return {**super().get_config(), "multipliers": self.multipliers}
