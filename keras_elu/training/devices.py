"""All that must be set before TensorFlow starts, and the strategy, one a process."""

import functools
import signal

import keras
import tensorflow as tf

from keras_elu.training import cluster
from keras_elu.training.config import Config

SECONDS_TO_MEET = 600


def set_up(config: Config) -> tf.distribute.Strategy:
    """Splits the CPU, sets the seed and the precision, and returns the strategy.

    Raises:
        ValueError: With one sentence, if the devices and the configuration do not fit.
    """
    if config.virtual_devices is not None:
        _split_cpu(config.virtual_devices)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    made = strategy(config.strategy)
    replicas = made.num_replicas_in_sync
    if config.batch_size < replicas:
        raise ValueError(
            f"--batch_size {config.batch_size} leaves some of the {replicas} replicas without "
            f"images: use at least {replicas}."
        )
    return made


@functools.cache  # a second strategy in a process aborts its collectives
def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the process's strategy of that name, in whose scope models are made.

    Args:
        name: "default", one device; "mirrored", every GPU, or every logical CPU device where there
            is no GPU; "multiworker", the devices of all workers that `TF_CONFIG` lists.

    Raises:
        ValueError: If there is no such strategy, or `TF_CONFIG` does not describe the workers.

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
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it has begun to ignore it
        return made
    raise ValueError(f"The strategy is default, mirrored or multiworker, not {name!r}.")


def count(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of GPUs that a strategy uses; without GPUs, that of its workers."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or tf.config.list_logical_devices("GPU"):
        return replicas
    return replicas // len(strategy.extended.worker_devices)


def is_chief(config: Config) -> bool:
    """Whether this process writes the run folder and reports: of several workers, one does."""
    return config.strategy != "multiworker" or cluster.read().chief


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:  # TensorFlow has started, and its devices are fixed
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise ValueError(
                f"--virtual_devices {count} comes too late: this process has started TensorFlow."
            ) from error
