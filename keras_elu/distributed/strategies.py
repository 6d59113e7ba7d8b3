"""The process's strategy and its scope."""

import contextlib
import functools
import signal

import tensorflow as tf

from keras_elu.distributed import cluster

SECONDS_TO_MEET = 600


def scope(strategy: tf.distribute.Strategy) -> contextlib.AbstractContextManager:
    """Returns the strategy's scope, or a context that does nothing inside that scope.

    Raises:
        ValueError: If the process is in the scope of another strategy.
    """
    if strategy is tf.distribute.get_strategy():
        return contextlib.nullcontext()
    if tf.distribute.has_strategy():
        raise ValueError(
            "The model was created outside the scope of the strategy in use: create the model, its "
            "layers, its optimizer and its metrics inside `with strategy.scope():`."
        )
    return strategy.scope()


@functools.cache  # a second strategy in a process aborts its collectives
def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy with a name. A process has one, and creates its models in its scope.

    Args:
        name: "default" for one device; "mirrored" for all GPUs, or all logical CPU devices if there
            is no GPU; "multiworker" for the devices of all workers in `TF_CONFIG`.

    Raises:
        ValueError: If the name is unknown, or `TF_CONFIG` does not describe the workers.

    Example:

    >>> strategy("default").num_replicas_in_sync
    1
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        with cluster.bounded_wait(cluster.read(), SECONDS_TO_MEET):
            made = tf.distribute.MultiWorkerMirroredStrategy()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which TensorFlow has made ignored
        return made
    raise ValueError(f"The strategy must be default, mirrored or multiworker, not {name!r}.")


def count(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of GPUs of a strategy, or without GPUs the number of its workers."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or tf.config.list_logical_devices("GPU"):
        return replicas
    return replicas // len(strategy.extended.worker_devices)
