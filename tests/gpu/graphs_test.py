"""What the traced graph shows of GPUs without one; these tests are not marked gpu."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import training

pytestmark = pytest.mark.tensorflow


class Counts(keras.layers.Layer):
    """Adds up in float64 what the step sums in a packet of its own."""

    def build(self, shape):
        self.total = self.add_weight(
            shape=(), dtype="float64", initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if training:
            self.total.assign(self.total + keras.ops.sum(keras.ops.cast(x, "float64")))
        return x


def traced_execution(strategy):
    """The graph of an execution of several steps, with an uneven batch and sums of two types."""
    with strategy.scope():
        inputs = keras.Input((4,))
        x = Counts()(keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs)))
        model = training.DistributedModel(inputs, keras.layers.Dropout(0.5)(x))
        model.compile("adam", "mse", jit_compile=True, micro_batches=2, steps_per_execution=2)
    rows = np.ones((10, 4), "float32"), np.ones((10, 3), "float32")
    model.fit(*rows, batch_size=4, verbose=0, shuffle=False)
    functions = [
        value
        for value in vars(model.train_function).values()
        if hasattr(value, "experimental_get_tracing_count")
    ]
    (function,) = (f for f in functions if f.experimental_get_tracing_count())
    data = tf.data.Dataset.from_tensor_slices(rows).batch(4)
    iterator = iter(model.distribute_strategy.experimental_distribute_dataset(data))
    return function.get_concrete_function(iterator, tf.constant(2)).graph.as_graph_def()


def sums(nodes):
    """The collectives of each device, in the order in which they must run; None without one."""
    found = {}
    for node in nodes.values():
        if node.op.startswith("Collective"):
            found.setdefault(node.device, []).append(node.name)

    def before(name):
        seen, ahead = set(), [name]
        while ahead:
            inputs = {i.lstrip("^").partition(":")[0] for i in nodes[ahead.pop()].input}
            ahead += inputs & set(nodes) - seen
            seen |= inputs
        return seen

    for device, names in found.items():
        earlier = {name: before(name) & set(names) for name in names}
        chain = [name for _, name in sorted((len(earlier[name]), name) for name in names)]
        ordered = all(len(earlier[name]) == place for place, name in enumerate(chain))
        found[device] = [nodes[name].attr["T"].type for name in chain] if ordered else None
    return found


def test_the_sums_of_every_replica_form_the_same_chain():
    """NCCL waits for ever where two replicas start their sums in different orders."""
    strategy = training.strategy("mirrored")
    graph = traced_execution(strategy)
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    by_body = [sums({node.name: node for node in nodes}) for nodes in bodies]
    steps = [found for found in by_body if found]
    assert steps
    for found in steps:
        first, *others = found.values()
        assert len(found) == strategy.num_replicas_in_sync
        assert first is not None
        assert all(other == first for other in others)
    types = {kind for found in steps for chain in found.values() for kind in chain}
    assert types == {tf.float32.as_datatype_enum, tf.float64.as_datatype_enum}


def test_what_keras_counts_with_has_kernels_for_gpus():
    """An int32 variable would lie on the CPU, where a function compiled for a GPU cannot use it."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(keras.layers.Dense(2)(inputs)))
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse", metrics=["mae"]
    )
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert {variable.dtype for variable in variables} >= {"float32", "int64"}
    assert not [variable.path for variable in variables if variable.dtype == "int32"]
