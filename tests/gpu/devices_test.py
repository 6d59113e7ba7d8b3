"""Layers and replicas are where they are supposed to be."""

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.tensorflow]


def test_a_layer_computes_on_the_device(kind):
    import tensorflow as tf

    from keras_elu import layers

    x = tf.linspace(-3.0, 3.0, 100)
    for jit_compile in (False, True):
        y = tf.function(layers.ELU(), jit_compile=jit_compile)(x)
        assert y.device.endswith(f"{kind}:0")


def test_every_replica_has_a_device_of_its_own(kind):
    import tensorflow as tf

    from keras_elu import training

    strategy = training.strategy("mirrored")
    with strategy.scope():
        variable = tf.Variable(1.0)
    copies = strategy.experimental_local_results(variable)
    assert [copy.device[-5:] for copy in copies] == [f"{kind}:{i}" for i in range(2)]
