"""Per-replica copies of variables, and agreement between workers."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


class Copies:
    """Reads and writes the per-replica copies of variables, bit by bit.

    All workers must read or write together.

    Args:
        strategy: The strategy in whose scope the variables were created.
        variables: Variables whose values float64 represents exactly.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Sequence[keras.Variable]):
        self._strategy = strategy
        self._variables = list(variables)
        self._read = tf.function(self._gathered, autograph=False)
        self._write = tf.function(self._scattered, autograph=False)

    def read(self) -> list[np.ndarray]:
        """Returns the copies of each variable, stacked by replica."""
        if not self._variables:
            return []
        rows = self._read().numpy()
        sizes = [int(np.prod(variable.shape)) for variable in self._variables]
        parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
        return [
            part.reshape(len(rows), *variable.shape).astype(variable.value.dtype.as_numpy_dtype)
            for part, variable in zip(parts, self._variables, strict=True)
        ]

    def write(self, copies: Sequence[np.ndarray]) -> None:
        """Sets the copies, stacked by replica.

        If the number of replicas has changed since the copies were read, the first replica gets
        the sum of all copies, as metrics need it, and the others get zeros.
        """
        if not self._variables:
            return
        replicas = self._strategy.num_replicas_in_sync
        rows = np.concatenate([copy.reshape(len(copy), -1).astype("float64") for copy in copies], 1)
        if len(rows) != replicas:
            rows = np.concatenate(
                [rows.sum(0, keepdims=True), np.zeros((replicas - 1, *rows[0].shape))]
            )
        self._write(tf.constant(rows))

    def _gathered(self):
        def row():
            return tf.concat(
                [
                    tf.reshape(tf.cast(tf.convert_to_tensor(v.value), "float64"), [-1])
                    for v in self._variables
                ],
                0,
            )[None]

        rows = self._strategy.run(row)
        here = self._strategy.experimental_local_results(rows)
        if len(here) == self._strategy.num_replicas_in_sync:
            return tf.concat(here, 0)
        return self._strategy.gather(rows, 0)

    def _scattered(self, rows):
        def assign():
            row = rows[tf.distribute.get_replica_context().replica_id_in_sync_group]
            sizes = [int(np.prod(variable.shape)) for variable in self._variables]
            for variable, part in zip(self._variables, tf.split(row, sizes), strict=True):
                value = tf.cast(tf.reshape(part, variable.shape), variable.value.dtype)
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)

        self._strategy.run(assign)


class Agreement:
    """Lets workers agree to do what any of them asks for, and compare numbers.

    Args:
        strategy: The strategy of the workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        replicas = strategy.num_replicas_in_sync
        self._alone = replicas == 1 or len(strategy.extended.worker_devices) == replicas
        self._strategy = strategy
        self._function = tf.function(self._summed, autograph=False)

    def any(self, *wishes: bool) -> list[bool]:
        """Returns for each wish whether any worker has it; all workers must call this together."""
        if self._alone:
            return list(wishes)
        return (self._function(tf.constant(wishes, "int32")) > 0).numpy().tolist()

    def same(self, *numbers: int) -> bool:
        """Returns whether all workers pass the same numbers; all must call this together."""
        if self._alone:
            return True
        totals = self._function(tf.constant(numbers, "int64")).numpy()
        replicas = self._strategy.num_replicas_in_sync
        return not any(self.any(*(totals != replicas * np.array(numbers)).tolist()))

    def _summed(self, numbers):
        def summed():
            here = tf.identity(numbers)  # on the replica's device, as the sum requires
            return tf.distribute.get_replica_context().all_reduce("SUM", here)

        return self._strategy.experimental_local_results(self._strategy.run(summed))[0]
