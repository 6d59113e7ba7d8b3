"""The use of a device: operations in a step, the device's peak, and its memory."""

import math
import re
import resource
import sys

import keras
import tensorflow as tf

# Peak floating-point operations per second of dense matrix products: in float32 as TensorFlow
# computes it (TF32 if the device has it), and in half precision with sums in float32. The first key
# found as a word of the device's name counts. docs/gpus.md names the sources.
_PEAKS = {
    "GB200": (1250e12, 2500e12),
    "B200": (1100e12, 2250e12),
    "GH200": (494.7e12, 989.4e12),
    "H200 NVL": (417.5e12, 835.5e12),
    "H200": (494.7e12, 989.4e12),
    "H100 PCIe": (378e12, 756e12),
    "H100 NVL": (417.5e12, 835.5e12),
    "H100": (494.7e12, 989.4e12),
    "A100": (156e12, 312e12),
    "A10G": (35e12, 70e12),
    "A10": (62.5e12, 125e12),
    "L40S": (183e12, 362e12),
    "L40": (90.5e12, 181e12),
    "L4": (60e12, 121e12),
    "V100": (15.7e12, 125e12),
    "T4": (8.1e12, 65e12),
    "RTX 6000 Ada": (182.1e12, 364.2e12),
    "RTX A6000": (77.4e12, 154.8e12),
    "RTX 5090": (104.8e12, 209.5e12),
    "RTX 4090": (82.6e12, 165.2e12),
    "RTX 3090": (35.6e12, 71e12),
}


def peak(device: str, precision: str) -> float | None:
    """Returns the peak operations per second of a device; None if its name is unknown.

    Example:

    >>> peak("NVIDIA A100-SXM4-40GB", "mixed_bfloat16")
    312000000000000.0
    >>> peak("some other", "float32") is None
    True
    """
    half = precision != "float32"
    return next(
        (
            peaks[half]
            for name, peaks in _PEAKS.items()
            if re.search(rf"\b{name}\b(?! D\b| Laptop)", device)
        ),
        None,
    )


def device_peak(precision: str) -> float | None:
    """Returns the peak of this process's first GPU; None if unknown, or without a GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    return peak(
        tf.config.experimental.get_device_details(gpus[0]).get("device_name", ""), precision
    )


def operations(model: keras.Model, image_shape: tuple[int, ...]) -> int:
    """Returns the floating-point operations of a training step for each image.

    Counts matrix products and convolutions. Every element of a kernel multiplies and adds once at
    each position of the output. The backward pass costs as much again for the gradient of the
    weights, and again for that of the inputs, which the first layer does not need.

    Example:

    >>> inputs = keras.Input((3,))
    >>> x = keras.layers.Dense(4)(inputs)
    >>> operations(keras.Model(inputs, keras.layers.Dense(5)(x)), (3,))
    168
    """
    found = [layer for layer in model.layers if hasattr(layer, "kernel")]
    if not found:
        return 0
    part = keras.Model(model.input, [layer.output for layer in found])
    outputs = part.compute_output_spec(keras.KerasTensor((1, *image_shape)))
    forward = [
        2 * math.prod(layer.kernel.shape) * math.prod(output.shape[1:-1])
        for layer, output in zip(found, tf.nest.flatten(outputs), strict=True)
    ]
    return 3 * sum(forward) - forward[0]


def memory() -> float:
    """Returns the peak memory in GiB of a GPU, or of the process if there is no GPU."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        held = [
            tf.config.experimental.get_memory_info(gpu.name.split("/device:")[1]) for gpu in gpus
        ]
        return max(info["peak"] for info in held) / 2**30
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 2**30
