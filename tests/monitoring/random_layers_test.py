"""Random layers are found, and whether their replicas draw other numbers."""

import keras
import pytest

from keras_elu.distributed import strategies
from keras_elu.distributed.model import DistributedModel
from keras_elu.monitoring import random_layers

MIRRORED = strategies.strategy("mirrored")


class SameMask(keras.layers.Dropout):
    def call(self, inputs, training=False):
        self.seed_generator.next()  # without a new seed, the layer would be refused
        return keras.random.dropout(inputs, 0.5, seed=7) if training else inputs


LAYERS = {
    "dropout": (lambda: keras.layers.Dropout(0.5), True),
    "noise": (lambda: keras.layers.GaussianNoise(1.0), True),
    "the same mask": (lambda: SameMask(0.5), False),
}


@pytest.mark.parametrize(("layer", "differs"), LAYERS.values(), ids=LAYERS)
def test_a_layer_is_found_and_whether_its_replicas_differ(layer, differs):
    with MIRRORED.scope():
        inputs = keras.Input((6,))
        outputs = keras.layers.Dense(2)(layer()(keras.layers.Dense(8)(inputs)))
        model = DistributedModel(inputs, outputs)
        model.compile("sgd", "mse", jit_compile=False)
    (found,) = random_layers.find(model)
    assert found is model.layers[2]
    assert random_layers.differs(found, model, MIRRORED) is differs
