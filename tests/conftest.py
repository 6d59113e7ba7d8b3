"""Two logical CPU devices, so that several replicas are real on any machine."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow only"
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("tensorflow"):
            item.add_marker(needs_tensorflow)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder holding the prepared digits."""
    from keras_elu import data

    folder = tmp_path_factory.mktemp("data")
    data.load("digits", data_dir=folder)
    return folder


@pytest.fixture(autouse=True)
def _same_precision():
    """Restores the precision that a run sets for its whole process."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
