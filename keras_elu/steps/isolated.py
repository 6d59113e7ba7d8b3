"""Running and tracing functions outside of the strategy in whose context they are called.

Inside, Keras would divide losses by the number of replicas; and one trace serves all replicas.
"""

import concurrent.futures
from collections.abc import Callable

import keras
import tensorflow as tf


class Isolated:
    """A function of tensors that is traced outside of every strategy.

    Args:
        function: Takes and returns nested tensors.
        jit_compile: Whether XLA compiles it.
    """

    def __init__(self, function: Callable, jit_compile: bool):
        self._function = tf.function(function, jit_compile=jit_compile, autograph=False)

    def __call__(self, *arguments):
        if tf.executing_eagerly():
            return outside(self._function.python_function, *arguments)
        specs = tf.nest.map_structure(spec, arguments)
        return outside(self._function.get_concrete_function, *specs)(*arguments)

    def check_xla(self, *arguments) -> None:
        """Raises the error of XLA if it cannot compile the function for arguments of these specs.

        Only the translation to XLA's operations is done, which is what fails.
        """
        outside(lambda: self._function.experimental_get_compiler_ir(*arguments)(stage="hlo"))


def outside(function: Callable, *arguments):
    """Calls a function in a thread of its own, in which no strategy is in use."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def spec(tensor):
    """Returns the `tf.TypeSpec` of a tensor; of nothing, nothing."""
    return None if tensor is None else tf.type_spec_from_value(tensor)


def relaxed(spec):
    """Returns a `tf.TypeSpec` for any number of rows."""
    if not isinstance(spec, tf.TensorSpec):
        return spec
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def tensors(batch):
    """Returns a batch of arrays as tensors, without the parts that are None."""
    given = tuple(part for part in batch if part is not None)

    def tensor(array):
        composite = isinstance(array, tf.RaggedTensor | tf.SparseTensor)
        return array if composite else tf.convert_to_tensor(array)

    return keras.tree.map_structure(tensor, given)
