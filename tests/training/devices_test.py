"""The strategy of a process, and what is set before TensorFlow starts."""

import keras
import pytest

from keras_elu.recipes import mnist
from keras_elu.training import devices


def config(**kwargs):
    return mnist.Config(**{"batch_size": 8} | kwargs)


def test_mirrored_has_a_replica_on_every_logical_cpu_and_is_made_once():
    strategy = devices.set_up(config(strategy="mirrored"))
    assert strategy.num_replicas_in_sync == 2
    assert devices.set_up(config(strategy="mirrored", virtual_devices=2)) is strategy
    assert devices.set_up(config()).num_replicas_in_sync == 1


def test_set_up_sets_the_seed_and_the_precision():
    draws = []
    for seed in (1, 1, 2):
        devices.set_up(config(seed=seed, precision="mixed_bfloat16"))
        draws.append(float(keras.random.uniform(())))
    assert draws[0] == draws[1] != draws[2]
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_a_batch_that_leaves_a_replica_without_images_is_refused():
    with pytest.raises(ValueError, match="--batch_size 1 leaves some of the 2 replicas"):
        devices.set_up(config(strategy="mirrored", batch_size=1))
    devices.set_up(config(strategy="mirrored", batch_size=3))
