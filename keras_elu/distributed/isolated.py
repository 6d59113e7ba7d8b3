"""Functions of tensors that are traced outside of the strategy."""

import concurrent.futures
from collections.abc import Callable

import tensorflow as tf


class Isolated:
    """A function of tensors that is traced outside of the strategy in whose context it is called.

    Inside, Keras would divide losses by the number of replicas; and one trace serves them all.

    Args:
        function: Takes and returns nested tensors.
        jit_compile: Whether XLA compiles it.
    """

    def __init__(self, function: Callable, jit_compile: bool):
        self._function = tf.function(function, jit_compile=jit_compile, autograph=False)

    def __call__(self, *arguments):
        eager = tf.executing_eagerly()
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            if eager:
                return thread.submit(self._function.python_function, *arguments).result()
            specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, arguments)
            concrete = thread.submit(self._function.get_concrete_function, *specs).result()
        return concrete(*arguments)
