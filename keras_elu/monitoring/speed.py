"""How well a device is used: operations of a step, the most that a device can do, its memory."""

import math
import resource
import sys

import keras
import tensorflow as tf

# Floating-point operations a second of matrix products, without sparsity, as the vendors' data
# sheets have them: in float32 as TensorFlow computes it, TF32 where there is such, and in half
# precision. A name is a part of the device's; the first that fits counts.
_PEAKS = {
    "H200": (494.7e12, 989.4e12),
    "H100 PCIe": (378e12, 756e12),
    "H100 NVL": (417.5e12, 835e12),
    "H100": (494.7e12, 989.4e12),
    "A100": (156e12, 312e12),
    "A10G": (35e12, 70e12),
    "A10": (62.5e12, 125e12),
    "L40S": (183e12, 362e12),
    "L4": (60e12, 121e12),
    "V100": (15.7e12, 125e12),
    "T4": (8.1e12, 65e12),
}


def peak(device: str, precision: str) -> float | None:
    """Returns the operations a second that a device of this name can do; None if unknown.

    Example:

    >>> peak("NVIDIA A100-SXM4-40GB", "mixed_bfloat16")
    312000000000000.0
    >>> peak("some other", "float32") is None
    True
    """
    half = precision != "float32"
    return next((peaks[half] for name, peaks in _PEAKS.items() if name in device), None)


def device_peak(precision: str) -> float | None:
    """Returns the same of this process's first GPU; None also where there is none."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    return peak(
        tf.config.experimental.get_device_details(gpus[0]).get("device_name", ""), precision
    )


def operations(model: keras.Model, image_shape: tuple[int, ...]) -> int:
    """Returns the floating-point operations of one image in a step of training.

    Those of the matrix products and convolutions, forward and backward; backward costs as much
    again for the weights, and for the inputs, which the first layer does not need. Every number
    of a kernel multiplies and adds at each place of the output.

    Example:

    >>> inputs = keras.Input((3,))
    >>> x = keras.layers.Dense(4)(inputs)
    >>> operations(keras.Model(inputs, keras.layers.Dense(5)(x)), (3,))
    168
    """
    found = [layer for layer in model.layers if hasattr(layer, "kernel")]
    places = keras.Model(model.input, [layer.output for layer in found])
    outputs = places.compute_output_spec(keras.KerasTensor((1, *image_shape)))
    forward = [
        2 * math.prod(layer.kernel.shape) * math.prod(output.shape[1:-1])
        for layer, output in zip(found, tf.nest.flatten(outputs), strict=True)
    ]
    return 3 * sum(forward) - (forward[0] if forward else 0)


def memory() -> float:
    """Returns the most GiB that a GPU has held; of a process without one, the process."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        held = [
            tf.config.experimental.get_memory_info(gpu.name.split("/device:")[1]) for gpu in gpus
        ]
        return max(info["peak"] for info in held) / 2**30
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 2**30
