"""Per-replica copies, read and written bit by bit, and agreement between workers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu.distributed import replicas, strategies

STRATEGIES = ("default", "mirrored")


def variables(strategy, **shapes):
    with strategies.scope(strategy):
        return [
            keras.Variable(np.zeros(shape), dtype=name.partition("_")[0])
            for name, shape in shapes.items()
        ]


SHAPES = {"float32": (2, 3), "bfloat16": (), "int32": (4,), "float32_empty": (0, 2), "uint32": (2,)}
VALUES = [
    np.float32([[1.1, -0.0, 1.2e-38], [np.inf, np.nan, 3e38]]),
    tf.constant(1.1, "bfloat16").numpy(),
    np.int32([-(2**31), 2**31 - 1, 0, 7]),
    np.zeros((0, 2), np.float32),
    np.uint32([2**32 - 1, 1]),
]


@pytest.mark.parametrize("name", STRATEGIES)
def test_copies_that_differ_return_in_every_bit(name):
    strategy = strategies.strategy(name)
    count = strategy.num_replicas_in_sync
    copies = replicas.Copies(strategy, variables(strategy, **SHAPES))
    written = [np.stack([value, np.zeros_like(value)][:count]) for value in VALUES]
    copies.write(written)
    for one, other in zip(written, copies.read(), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def test_each_replica_has_its_own_row():
    strategy = strategies.strategy("mirrored")
    (variable,) = variables(strategy, float32=(2,))
    replicas.Copies(strategy, [variable]).write([np.float32([[1, 2], [3, 4]])])
    here = strategy.experimental_local_results(variable.value)
    assert [copy.numpy().tolist() for copy in here] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mirrored", [[5.0]], [[5.0], [0.0]]),
        ("mirrored", [[1.0], [2.0], [4.0]], [[7.0], [0.0]]),
        ("default", [[1.0], [2.0]], [[3.0]]),
    ],
)
def test_another_number_of_replicas_keeps_the_sum(name, before, after):
    strategy = strategies.strategy(name)
    copies = replicas.Copies(strategy, variables(strategy, float32=(1,)))
    copies.write([np.float32(before)])
    assert copies.read()[0].tolist() == after


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_variables_are_no_copies(name):
    copies = replicas.Copies(strategies.strategy(name), [])
    copies.write([])
    assert copies.read() == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_worker_agrees_with_itself(name):
    agreement = replicas.Agreement(strategies.strategy(name))
    assert agreement.any(True, False) == [True, False]
    assert agreement.any(False) == [False]
    assert agreement.same(3, 2**40)


def test_workers_do_what_one_of_them_wishes():
    """The sum over two replicas, which `Agreement` takes for workers."""
    strategy = strategies.strategy("mirrored")
    agreement = replicas.Agreement(strategy)
    agreement._alone = False
    assert agreement.any(True, False, True) == [True, False, True]
    assert agreement.same(3, 2**40)
