"""What the traced graph shows of GPUs without one; these tests are not marked gpu."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import training

pytestmark = pytest.mark.tensorflow


class Counts(keras.layers.Layer):
    """Counts the rows, in a variable of this type."""

    def __init__(self, counted_in):
        super().__init__()
        self.counted_in = counted_in

    def build(self, shape):
        self.total = self.add_weight(
            shape=(), dtype=self.counted_in, initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if training:
            rows = keras.ops.sum(keras.ops.ones_like(x[:, 0], dtype=self.counted_in))
            self.total.assign(self.total + rows)
        return x


def traced_execution(strategy, counted_in):
    """The graph of an execution of several steps with an uneven batch, and the counted rows."""
    with strategy.scope():
        inputs = keras.Input((4,))
        counts = Counts(counted_in)
        x = counts(keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs)))
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
    graph = function.get_concrete_function(iterator, tf.constant(2)).graph.as_graph_def()
    return graph, int(counts.total.numpy())


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
    graph, counted = traced_execution(strategy, "float64")  # is summed apart from float32
    assert counted == 10
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


@pytest.mark.parametrize(("counted_in", "in_place"), [("int64", True), ("int32", False)])
def test_xla_gets_no_variable_of_int32(counted_in, in_place):
    """Its memory is the CPU's, where a function compiled for a GPU cannot use it."""
    graph, counted = traced_execution(training.strategy("default"), counted_in)
    assert counted == 10
    functions = {function.signature.name: function for function in graph.library.function}
    compiled = {
        node.attr["f"].func.name
        for function in functions.values()
        for node in function.node_def
        if node.attr["_XlaMustCompile"].b
    }
    assert compiled
    for name in compiled:
        types = [argument.type for argument in functions[name].signature.input_arg]
        assert (tf.resource.as_datatype_enum in types) == in_place


def test_what_keras_counts_with_is_not_int32():
    """XLA can update it in place."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(keras.layers.Dense(2)(inputs)))
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse", metrics=["mae"]
    )
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    assert {variable.dtype for variable in variables} >= {"float32", "int64"}
    assert not [variable.path for variable in variables if variable.dtype == "int32"]
