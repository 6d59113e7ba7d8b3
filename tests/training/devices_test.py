"""Strategies, and what stock Keras cannot do under them."""

import keras
import pytest
import tensorflow as tf

from keras_elu.recipes import mnist
from keras_elu.training import devices


def settings(**kwargs):
    return mnist.Config(**{"batch_size": 8} | kwargs)


def test_mirrored_has_a_replica_on_every_logical_cpu_and_is_made_once():
    strategy = devices.set_up(settings(strategy="mirrored"))
    assert strategy.num_replicas_in_sync == 2
    assert devices.set_up(settings(strategy="mirrored", virtual_devices=2)) is strategy
    assert devices.set_up(settings()).num_replicas_in_sync == 1


def test_set_up_sets_the_seed_and_the_precision():
    draws = []
    for seed in (1, 1, 2):
        devices.set_up(settings(seed=seed, precision="mixed_bfloat16"))
        draws.append(float(keras.random.uniform(())))
    assert draws[0] == draws[1] != draws[2]
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="for a CPU")
@pytest.mark.parametrize("strategy", ["default", "mirrored"])
def test_xla_is_off_on_the_cpu_unless_asked_for(strategy):
    made = devices.set_up(settings(strategy=strategy))
    assert not devices.jit_compile(settings(), made)
    assert not devices.jit_compile(settings(jit_compile="off"), made)
    assert devices.jit_compile(settings(jit_compile="on"), made)


REFUSED = {"jit_compile": ("on", True), "steps_per_execution": (2, 2)}


@pytest.mark.parametrize(("name", "flag", "value"), [(k, *v) for k, v in REFUSED.items()])
def test_what_stock_keras_cannot_do_on_two_replicas_is_refused(name, flag, value):
    """If Keras can do it one day, this fails, and the refusal can go."""
    with pytest.raises(ValueError, match=f"--{name} {flag}"):
        devices.set_up(settings(strategy="mirrored", **{name: flag}))
    devices.set_up(settings(**{name: flag}))
    strategy = devices.set_up(settings(strategy="mirrored"))
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse", **{name: value})
    batches = tf.data.Dataset.from_tensors((tf.ones((8, 3)), tf.ones((8, 2)))).repeat()
    with pytest.raises(tf.errors.InvalidArgumentError):
        model.fit(batches, steps_per_epoch=4, verbose=0, shuffle=False)
