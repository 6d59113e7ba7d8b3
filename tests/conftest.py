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


@pytest.fixture(scope="session")
def digits_run(data_dir, tmp_path_factory):
    """The folder of a complete run of the mnist recipe on the digits."""
    from keras_elu import training
    from keras_elu.recipes import mnist

    folder = tmp_path_factory.mktemp("runs") / "digits"
    flags = ["--epochs", "1", "--keep_best", "val_accuracy", "--run_dir", str(folder)]
    training.main(mnist, ["--dataset", "digits", "--data_dir", str(data_dir), *flags])
    return folder


@pytest.fixture(scope="session")
def digit_pictures(data_dir, tmp_path_factory):
    """A folder with the test images of the digits as PNG files, and their labels."""
    import PIL.Image

    from keras_elu import data

    folder = tmp_path_factory.mktemp("pictures")
    labels = []
    for images, of in data.load("digits", data_dir=data_dir).evaluation(
        "test", 500, preprocess="none"
    ):
        for image, label in zip(images.numpy(), of.numpy(), strict=True):
            PIL.Image.fromarray(image[..., 0]).save(folder / f"{len(labels):04}.png")
            labels.append(int(label))
    return folder, labels


@pytest.fixture(autouse=True)
def _same_precision():
    """Restores the precision that a run sets for its whole process."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
