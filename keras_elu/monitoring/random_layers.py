"""Whether random layers draw other numbers on every replica."""

import keras
import numpy as np
import tensorflow as tf

from keras_elu.distributed.model import DistributedModel
from keras_elu.distributed.replicas import Copies
from keras_elu.distributed.strategies import scope
from keras_elu.monitoring import losses
from keras_elu.steps import keras_internals

_ROWS = 16  # of a batch, and sides of images without a fixed size
_DRAWS = 4  # of a layer that has few outcomes, as the regions of a pooling


def find(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a model that draw random numbers."""
    return [
        layer
        for layer in model.layers
        if any(map(keras_internals.is_seed, layer.non_trainable_variables))
    ]


def differs(layer: keras.Layer, model: keras.Model, strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a layer maps the same rows to different outputs on every replica.

    A model of this layer alone trains for a step, of the same kind as the model's own, and for
    another one if the outputs are equal, as they may be by chance.

    Args:
        layer: The layer.
        model: The compiled model that it belongs to.
        strategy: The strategy in whose scope the model was made.
    """
    replicas = strategy.num_replicas_in_sync
    kind = DistributedModel if isinstance(model, DistributedModel) else keras.Model
    with scope(strategy):
        alone = kind(layer.input, layer.output)
        seen = _Seen([_ROWS, *(size or _ROWS for size in layer.output.shape[1:])])
        alone.compile(
            "sgd",
            loss=lambda labels, outputs: 0 * keras.ops.mean(outputs),
            metrics=[seen],
            jit_compile=model.jit_compile,
        )
    losses.train_past_non_finite(alone)
    random = np.random.default_rng(0)
    inputs = []
    for x in alone.inputs:
        rows = random.normal(size=[_ROWS, *(size or _ROWS for size in x.shape[1:])])
        inputs.append(np.concatenate([rows.astype(x.dtype)] * replicas))
    batch = inputs if len(inputs) > 1 else inputs[0]
    labels = np.zeros(_ROWS * replicas)
    for _ in range(_DRAWS):
        alone.fit(batch, labels, batch_size=len(labels), shuffle=False, verbose=0)
        (copies,) = Copies(strategy, [seen.outputs]).read()
        if len({copy.tobytes() for copy in copies}) == replicas:
            return True
    return False


class _Seen(keras.metrics.Metric):
    """Keeps the last outputs of each replica."""

    def __init__(self, shape):
        super().__init__(name="seen")
        self.outputs = self.add_variable(shape, "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        # Keras also traces it with the rows of all replicas.
        self.outputs.assign(keras.ops.cast(y_pred[:_ROWS], self.outputs.dtype))

    def result(self):
        return 0.0
