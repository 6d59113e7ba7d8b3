"""Running and tracing functions outside the current strategy.

Inside, Keras divides losses by the number of replicas. Outside, one trace also serves all replicas.
"""

import concurrent.futures
from collections.abc import Callable

import keras
import tensorflow as tf


class Isolated:
    """A function of tensors that is traced outside every strategy.

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
        """Raises XLA's error if XLA cannot compile the function for arguments of these specs.

        This translates the function to XLA's operations, which is the part that can fail.
        """
        outside(lambda: self._function.experimental_get_compiler_ir(*arguments)(stage="hlo"))


def outside(function: Callable, *arguments):
    """Calls a function in a new thread, which is outside every strategy."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def spec(tensor):
    """Returns the `tf.TypeSpec` of a tensor; None for None."""
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
