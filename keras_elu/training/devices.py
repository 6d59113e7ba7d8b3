"""All that must be set before TensorFlow starts, and the strategy, one a process."""

import functools

import keras
import tensorflow as tf

from keras_elu.training.config import Config


def set_up(config: Config) -> tf.distribute.Strategy:
    """Splits the CPU, sets the seed and the precision, and returns the strategy.

    Raises:
        ValueError: With one sentence, if the devices and the configuration do not fit.
    """
    if config.virtual_devices is not None:
        _split_cpu(config.virtual_devices)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    strategy = _strategy(config.strategy)
    _check(config, strategy.num_replicas_in_sync)
    return strategy


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


@functools.cache  # a second strategy in a process aborts its collectives
def _strategy(name: str) -> tf.distribute.Strategy:
    if name == "default":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _check(config: Config, replicas: int) -> None:
    if config.batch_size % replicas:
        raise ValueError(
            f"--batch_size {config.batch_size} must be divisible by the {replicas} replicas."
        )
    # Stock Keras can neither compile a step for several replicas nor run several steps at once on
    # them: https://github.com/keras-team/keras/issues/20763 and 19246.
    if replicas > 1 and config.jit_compile == "on":
        raise ValueError(f"--jit_compile on needs a single replica, not {replicas}: use auto.")
    if replicas > 1 and config.steps_per_execution > 1:
        raise ValueError(
            f"--steps_per_execution {config.steps_per_execution} needs a single replica, not "
            f"{replicas}: use 1."
        )


def jit_compile(config: Config, strategy: tf.distribute.Strategy) -> bool:
    """Returns whether XLA compiles the training step."""
    if config.jit_compile == "auto":
        accelerated = bool(tf.config.list_physical_devices("GPU"))
        return accelerated and strategy.num_replicas_in_sync == 1
    return config.jit_compile == "on"
