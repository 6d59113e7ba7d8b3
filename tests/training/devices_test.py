"""The strategy of a process, and what is set before TensorFlow starts."""

import keras
import numpy as np
import pytest

from keras_elu import training
from keras_elu.recipes import mnist
from keras_elu.training import command_line, devices


def config(**kwargs):
    return mnist.Config(**{"batch_size": 8} | kwargs)


def test_mirrored_has_a_replica_on_every_logical_cpu_and_is_made_once():
    strategy = devices.set_up(config(strategy="mirrored"))
    assert strategy.num_replicas_in_sync == 2
    assert devices.set_up(config(strategy="mirrored", virtual_devices=2)) is strategy
    assert devices.set_up(config()).num_replicas_in_sync == 1


def test_set_up_sets_the_precision():
    devices.set_up(config(precision="mixed_bfloat16"))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_the_run_that_prepares_its_data_starts_from_the_same_weights(tmp_path):
    # Preparing draws random numbers.
    starts = []
    for seed in (1, 1, 2):
        asked = command_line.resolve(
            mnist, config(seed=seed, dataset="digits", data_dir=str(tmp_path))
        )
        model = training.prepare_run(mnist, asked, devices.set_up(asked)).model
        starts.append(model.trainable_weights[0].numpy())
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0] != starts[2]).any()


def test_a_batch_that_leaves_a_replica_without_images_is_refused():
    with pytest.raises(ValueError, match="--batch_size 1 leaves some of the 2 replicas"):
        devices.set_up(config(strategy="mirrored", batch_size=1))
    devices.set_up(config(strategy="mirrored", batch_size=3))


FREE = """#!/bin/sh
echo "$*" > "$0.asked"
printf '24000\\n16000\\n'
"""


@pytest.fixture
def split(monkeypatch, tmp_path):
    """The devices that `--virtual_devices` splits on a machine with two GPUs, and their parts."""
    made = {}
    monkeypatch.setattr(devices.tf.config, "get_visible_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(
        devices.tf.config,
        "set_logical_device_configuration",
        lambda gpu, parts: made.update({gpu: parts}),
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    (tmp_path / "nvidia-smi").write_text(FREE)
    (tmp_path / "nvidia-smi").chmod(0o755)
    return made


def test_every_gpu_is_split_into_parts_that_fit_into_the_free_memory(split, tmp_path):
    devices._split(2)
    assert list(split) == ["first", "second"]
    for parts in split.values():
        assert [part.memory_limit for part in parts] == [6400, 6400]  # 80% of the least, halved
    assert "--id=4,7" in (tmp_path / "nvidia-smi.asked").read_text()


def test_a_gpu_that_is_not_split_has_no_limit(split):
    devices._split(1)
    assert not split


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho '[N/A]'\n"])
def test_a_gpu_of_unknown_memory_is_not_split(split, text, tmp_path):
    (tmp_path / "nvidia-smi").write_text(text)
    with pytest.raises(ValueError, match=r"^--virtual_devices 2 cannot split .* out\.$"):
        devices._split(2)
    assert not split
