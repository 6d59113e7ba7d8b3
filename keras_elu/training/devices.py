"""Settings that precede the start of TensorFlow, and the strategy of the process."""

import keras
import tensorflow as tf

from keras_elu import system
from keras_elu.distributed import cluster, strategies
from keras_elu.training.config import Config


def set_up(config: Config) -> tf.distribute.Strategy:
    """Splits the CPU, sets the seed and the precision, and returns the strategy.

    Raises:
        ValueError: With one sentence, if the configuration does not fit the devices.
    """
    system.open_standard_streams()
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(
            f"Training needs Keras's TensorFlow backend, not {backend}: set "
            "KERAS_BACKEND=tensorflow."
        )
    cluster.warn_if_unused(config.strategy)
    if config.virtual_devices is not None:
        _split_cpu(config.virtual_devices)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(config.precision)
    made = strategies.strategy(config.strategy)
    replicas = made.num_replicas_in_sync
    if config.batch_size < replicas:
        raise ValueError(
            f"--batch_size {config.batch_size} leaves some of the {replicas} replicas without "
            f"images: use at least {replicas}."
        )
    return made


def is_chief(config: Config) -> bool:
    """Whether this process writes the run folder and prints. One of several workers does."""
    return config.strategy != "multiworker" or cluster.read().chief


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:  # TensorFlow has started, so its devices are fixed
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise ValueError(
                f"--virtual_devices {count} comes too late: TensorFlow has already started in this "
                "process."
            ) from error
