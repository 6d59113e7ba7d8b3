"""Operations by hand, peaks by name, and memory that was really used."""

import pathlib
import re

import keras
import numpy as np
import pytest

from keras_elu.monitoring import profiling, speed


def test_operations_are_counted_as_on_paper():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    x = keras.layers.Conv2D(4, 1, strides=2)(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    first, second, third = 2 * 27 * 8 * 100, 2 * 8 * 4 * 25, 2 * 4 * 5
    assert speed.operations(model, (10, 10, 3)) == 2 * first + 3 * (second + third)


def test_a_model_without_kernels_has_no_operations():
    inputs = keras.Input((4,))
    assert speed.operations(keras.Model(inputs, keras.layers.ELU()(inputs)), (4,)) == 0


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "mixed_bfloat16", 989.4e12),
        ("NVIDIA H100 PCIe", "mixed_bfloat16", 756e12),
        ("NVIDIA A100-SXM4-40GB", "float32", 156e12),
        ("NVIDIA A10G", "mixed_float16", 70e12),
        ("NVIDIA A10", "float32", 62.5e12),
        ("NVIDIA L40S", "float32", 183e12),
        ("Tesla T4", "float32", 8.1e12),
        ("NVIDIA L40", "mixed_bfloat16", 181e12),
        ("NVIDIA L4", "mixed_bfloat16", 121e12),
        ("Tesla V100-SXM2-16GB", "mixed_float16", 125e12),
        ("NVIDIA H200", "mixed_bfloat16", 989.4e12),
        ("NVIDIA B200", "mixed_bfloat16", 2250e12),
        ("NVIDIA GeForce RTX 4090", "mixed_bfloat16", 165.2e12),
        ("NVIDIA RTX 6000 Ada Generation", "float32", 182.1e12),
        ("NVIDIA RTX A1000", "float32", None),  # which is neither A100 nor A10
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "float32", None),  # a smaller chip
        ("a card of next year", "float32", None),
        ("", "float32", None),
    ],
)
def test_the_longest_name_that_fits_gives_the_peak(device, precision, peak):
    assert speed.peak(device, precision) == peak


def test_the_docs_name_the_source_of_every_peak():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "gpus.md").read_text()
    rows = re.findall(r"^\| ([\w ]+) \| ([\d.]+) \| ([\d.]+) \| \S", text, re.MULTILINE)
    in_docs = {card: (float(single), float(half)) for card, single, half in rows}
    assert in_docs == {card: (s / 1e12, h / 1e12) for card, (s, h) in speed._PEAKS.items()}


def test_the_peak_memory_covers_what_the_process_has_held():
    held = np.ones(2**25)  # 0.25 GiB, all of it touched
    assert speed.memory() > held.nbytes / 2**30


@pytest.mark.parametrize(("steps", "fits"), [("1:20", True), ("20:21", False), ("99:99", False)])
def test_a_profile_beyond_the_end_of_the_run_is_refused(steps, fits, tmp_path):
    if fits:
        profiling.Profile(tmp_path, steps, steps_per_epoch=5, epochs=4)
        return
    with pytest.raises(ValueError, match=rf"^--profile {steps} .* 20 steps.*\.$"):
        profiling.Profile(tmp_path, steps, steps_per_epoch=5, epochs=4)
