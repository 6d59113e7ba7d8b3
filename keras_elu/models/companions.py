"""Companion classifiers of hidden layers, and the losses of deeply-supervised networks.

Reference:
    [Lee et al., 2015](https://arxiv.org/abs/1409.5185), section 2.
"""

import math

import keras
from keras.optimizers.schedules import LearningRateSchedule

from keras_elu.layers.elu import positive_number


@keras.saving.register_keras_serializable("keras_elu")
class Companions(keras.layers.Layer):
    """Linear classifiers of hidden layers, which exist for training only.

    In training, the output also has the logits of each companion, and in its last row the weight of
    their losses. Otherwise it is the logits that enter.

    Args:
        weight: Positive number, or a schedule of the number of training steps.
        weight_decay: The multiple of each kernel that is added to its gradient.

    Input and output shape:
        A list of the logits `(batch, classes)` and of hidden layers `(batch, ...)`;
        `(batch, classes)`, or in training `(batch, hidden layers + 2, classes)`.

    Raises:
        ValueError: If `weight` is neither a positive number nor a schedule.
    """

    training_only = True  # a saved model need not have it

    def __init__(self, weight: float | LearningRateSchedule, weight_decay: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if isinstance(weight, dict):
            weight = keras.saving.deserialize_keras_object(weight)
        if isinstance(weight, LearningRateSchedule):
            self.weight = weight
            self.step = keras.Variable(
                0,
                dtype="int",
                trainable=False,
                synchronization="on_read",
                aggregation="only_first_replica",
                name="step",
            )
        else:
            self.weight = positive_number(weight, "weight", "or a schedule")
        self.weight_decay = float(weight_decay)

    def build(self, input_shape):
        logits, *hidden = input_shape
        self.companions = []
        for i, shape in enumerate(hidden, start=1):
            layer = keras.layers.Dense(
                logits[-1],
                kernel_initializer=keras.initializers.VarianceScaling(1, "fan_in", "uniform"),
                kernel_regularizer=keras.regularizers.L2(self.weight_decay / 2)
                if self.weight_decay
                else None,
                dtype=self.dtype_policy,
                name=f"companion_{i}",
            )
            layer.build((None, math.prod(shape[1:])))
            self.companions.append(layer)
        self.built = True

    @property
    def multiply_accumulates(self) -> int:
        """Those of a training step for one example; otherwise there are none."""
        return sum(math.prod(layer.kernel.shape) for layer in self.companions)

    def call(self, inputs, training=None):
        logits, *hidden = inputs
        if not training:
            return logits
        rows = [logits]
        for layer, x in zip(self.companions, hidden, strict=True):
            rows.append(layer(keras.ops.reshape(x, (-1, layer.kernel.shape[0]))))
        rows.append(keras.ops.full_like(logits, 1.0) * self._latest(logits.dtype))
        return keras.ops.stack(rows, axis=1)

    def _latest(self, dtype):
        if not isinstance(self.weight, LearningRateSchedule):
            return self.weight
        weight = self.weight(self.step.value)
        self.step.assign_add(1)
        return keras.ops.cast(weight, dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        weight = keras.saving.serialize_keras_object(self.weight)
        return {**super().get_config(), "weight": weight, "weight_decay": self.weight_decay}


@keras.saving.register_keras_serializable("keras_elu")
def squared_hinge(y_true, y_pred):
    """Sum over the classes of the squared hinge of one against the rest, for integer labels.

    `sum_k max(0, 1 - t_k z_k)**2`, where `t_k` is 1 for the label and -1 for the other classes.

    Input and output shape:
        Labels `(batch,)` and scores `(batch, classes)`; `(batch,)`.

    Example:

    >>> squared_hinge(np.array([1]), np.array([[-3.0, 0.5, 0.0]])).numpy().tolist()
    [1.25]

    Reference:
        [Lee et al., 2015](https://arxiv.org/abs/1409.5185), section 2.
    """
    labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
    signs = 2 * keras.ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype) - 1
    return keras.ops.sum(keras.ops.square(keras.ops.relu(1 - signs * y_pred)), axis=-1)


@keras.saving.register_keras_serializable("keras_elu")
class CompanionLoss(keras.losses.Loss):
    """The loss of the network, and the weighted ones of its companions in training.

    Args:
        of: Loss of one classifier for each row, such as `squared_hinge`, or a Keras loss.

    Input shape:
        Labels `(batch,)` and an output of `Companions`, or logits.

    Example:

    >>> scores = np.array([[[1.0, -1.0], [0.0, 0.0], [0.5, 0.5]]])  # logits, a companion, weights
    >>> float(CompanionLoss(squared_hinge)(np.array([0]), scores))
    1.0
    """

    def __init__(self, of, name: str = "companion_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.of = keras.saving.deserialize_keras_object(of) if isinstance(of, dict) else of

    def call(self, y_true, y_pred):
        if len(y_pred.shape) == 2:
            return self._of(y_true, y_pred)
        logits, *companions, weights = keras.ops.unstack(y_pred, axis=1)
        losses = [self._of(y_true, scores) for scores in companions]
        return self._of(y_true, logits) + weights[:, 0] * sum(losses)

    def _of(self, y_true, y_pred):
        return self.of.call(y_true, y_pred) if hasattr(self.of, "call") else self.of(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "of": keras.saving.serialize_keras_object(self.of)}


@keras.saving.register_keras_serializable("keras_elu")
def companion_accuracy(y_true, y_pred):
    """Whether the network itself is right, for an output of `Companions` or logits."""
    logits = y_pred if len(y_pred.shape) == 2 else y_pred[:, 0]
    return keras.metrics.sparse_categorical_accuracy(y_true, logits)
