"""The scalars of every step, for the layers and optimizers that have them."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import layers, schedules
from keras_elu.steps import step_scalars

ALPHA = schedules.Linear(1.0, 0.5, 10)
RATE = schedules.Linear(0.4, 0.2, 10)


def model(*middle, optimizer="sgd"):
    x = inputs = keras.Input((3,))
    for layer in middle:
        x = layer(x)
    made = keras.Model(inputs, keras.layers.Dense(1)(x))
    made.compile(optimizer, "mse")
    return made


MIDDLES = {
    "none": ([], []),
    "a fixed alpha": ([layers.ELU(alpha=2.0, name="fixed")], []),
    "a schedule": ([layers.ELU(alpha=ALPHA, name="moving")], ["alpha/moving"]),
    "learnt": ([layers.ParametricELU(name="learnt")], ["alpha/learnt"]),
}


@pytest.mark.parametrize(("middle", "alphas"), MIDDLES.values(), ids=MIDDLES)
def test_only_alphas_that_change_have_a_name(middle, alphas):
    made = model(*middle)
    training = step_scalars.Reader(made, training=True)
    assert list(training.names) == ["batch_loss", "input_wait", "learning_rate", *alphas]
    assert step_scalars.Reader(made, training=False).names == ("batch_loss", "input_wait")


@pytest.mark.parametrize("scaled", [False, True])
def test_values_are_those_of_the_schedules_and_of_the_mean(scaled):
    optimizer = keras.optimizers.SGD(RATE)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    learnt = layers.ParametricELU(shared_axes=[], name="learnt")
    made = model(layers.ELU(alpha=ALPHA), learnt, optimizer=optimizer)
    made.optimizer.build(made.trainable_variables)
    learnt.set_weights([np.log([0.5, 1.0, 3.0])])
    alphas = keras.ops.convert_to_numpy(learnt.alpha)
    assert len(np.unique(alphas)) == 3
    kept = step_scalars.Reader(made, training=True)
    getattr(optimizer, "inner_optimizer", optimizer).iterations.assign(4)
    np.testing.assert_allclose([float(x) for x in kept.before()], [float(RATE(4))], rtol=1e-6)
    after = [float(x) for x in kept.after()]
    np.testing.assert_allclose(after, [float(ALPHA(0)), alphas.mean()], rtol=1e-6)


def test_an_evaluation_reads_no_variables():
    kept = step_scalars.Reader(model(layers.ParametricELU()), training=False)
    assert (kept.before(), kept.after()) == ([], [])


def test_the_wait_is_that_for_the_batch():
    @tf.function
    def waits(iterator):
        _, *rest = step_scalars.timed(
            iterator.get_next_as_optional, lambda batch: batch.has_value()
        )
        return rest

    def sleeps(x):
        tf.numpy_function(lambda: time.sleep(0.25), [], [])
        return x

    there, waited = waits(iter(tf.data.Dataset.range(1).map(sleeps)))
    assert bool(there)
    assert waited >= 0.25  # at least; a slow machine takes longer
    there, _ = waits(iter(tf.data.Dataset.range(0)))
    assert not bool(there)
