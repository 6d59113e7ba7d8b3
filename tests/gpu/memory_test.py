"""Memory of the device: what arrives there, and what happens when it is exhausted."""

import textwrap

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.tensorflow]

# 256 layers keep a tensor of 4 MiB for each row: 1 GiB, so that 4 rows do not fit into 2 GiB.
EXHAUSTED = """
    import keras, numpy as np, tensorflow as tf
    from keras_elu import training

    gpu, *_ = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices([gpu], "GPU")
    limit = tf.config.LogicalDeviceConfiguration(2048)
    tf.config.set_logical_device_configuration(gpu, [limit])
    x = inputs = keras.Input((2**20,))
    for _ in range(256):
        x = keras.ops.sin(x)
    model = training.DistributedModel(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse", jit_compile=False, micro_batches="auto")
    x, y = np.ones((4, 2**20), "float32"), np.ones((4, 1), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4, drop_remainder=True)
    loss = model.fit(data, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
"""


def test_micro_batches_are_halved_until_a_step_fits_into_the_memory(kind, run, tmp_path):
    if kind == "CPU":
        pytest.skip("the memory of a CPU has no limit that TensorFlow knows")
    said = run("-c", textwrap.dedent(EXHAUSTED), cwd=tmp_path)
    assert "micro-batches: 4, of 1 of a replica's 4 examples" in said


def test_pixels_arrive_on_the_devices_as_bytes(kind, data_dir):
    import tensorflow as tf

    from keras_elu import data, training
    from keras_elu.recipes import imagenet_resnet as recipe
    from keras_elu.training.config import resolve

    strategy = training.strategy("mirrored")
    config = resolve(recipe, recipe.Config(dataset="digits", data_dir=str(data_dir)))
    batches, *_ = recipe.datasets(config, data.load("digits", data_dir=data_dir))
    images, _ = next(iter(strategy.experimental_distribute_dataset(batches)))
    parts = strategy.experimental_local_results(images)
    assert len(parts) == strategy.num_replicas_in_sync == 2
    for number, part in enumerate(parts):
        assert part.dtype == tf.uint8
        assert kind == "CPU" or part.device.endswith(f"GPU:{number}")
