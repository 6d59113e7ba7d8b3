"""Settings that precede the start of TensorFlow, and the strategy of the process."""

import keras
import tensorflow as tf

from keras_elu import system
from keras_elu.distributed import cluster, strategies
from keras_elu.training.config import Config


def set_up(config: Config) -> tf.distribute.Strategy:
    """Splits the devices, sets the precision, and returns the strategy.

    Raises:
        ValueError: With one sentence, if the configuration does not fit the devices.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(
            f"Training needs Keras's TensorFlow backend, not {backend}: set "
            "KERAS_BACKEND=tensorflow."
        )
    cluster.warn_if_unused(config.strategy)
    if config.virtual_devices is not None:
        _split(config.virtual_devices)
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


def _split(count: int) -> None:
    """Splits every GPU, or the CPU if there is none, into logical devices."""
    gpus = tf.config.get_visible_devices("GPU")
    kind = "GPU" if gpus else "CPU"
    limit = _memory_limit(count) if gpus and count > 1 else None
    parts = [tf.config.LogicalDeviceConfiguration(limit)] * count
    try:
        for device in gpus or tf.config.list_physical_devices("CPU")[:1]:
            if kind == "CPU" or count > 1:  # one logical GPU needs no limit
                tf.config.set_logical_device_configuration(device, parts)
    except RuntimeError as error:  # TensorFlow has started, so its devices are fixed
        if len(tf.config.list_logical_devices(kind)) != count * max(1, len(gpus)):
            raise ValueError(
                f"--virtual_devices {count} comes too late: TensorFlow has already started in this "
                "process."
            ) from error


def _memory_limit(count: int) -> int:
    """Returns the MiB for each part of a GPU, which TensorFlow requires.

    A fifth of the free memory is left to CUDA, cuDNN and the compiled programs.
    """
    try:
        free = min(map(int, system.query_gpus("memory.free", only_visible=True)))
    except ValueError as error:
        raise ValueError(
            f"--virtual_devices {count} cannot split the GPU, as nvidia-smi does not tell how much "
            "memory it has: leave the flag out."
        ) from error
    return int(0.8 * free / count)
