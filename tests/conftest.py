"""Two logical devices, so that several replicas are real on any machine.

KERAS_ELU_TEST_DEVICES selects them:

    not set    of the CPU, also on a machine with GPUs; tests marked gpu are skipped
    gpu        of two GPUs, or of the only one; tests of the step and the layers are marked gpu too
    cpu        of the CPU; tests marked gpu run on it, where that makes sense
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.update(
    {} if os.environ.get("KERAS_ELU_TEST_DEVICES") == "gpu" else {"CUDA_VISIBLE_DEVICES": "-1"}
)

import keras
import pytest

DEVICES = os.environ.get("KERAS_ELU_TEST_DEVICES")
# What they check holds on any device, except for what stock Keras does: its bits are those of a
# CPU, and where it fails on two GPUs, the second may wait for the first for ever.
ON_GPUS_TOO = (
    "tests/distributed/layers_test.py",
    "tests/distributed/losses_test.py",
    "tests/distributed/metrics_test.py",
    "tests/distributed/model_test.py",
    "tests/layers/derivatives_test.py",
    "tests/layers/exactness_test.py",
)
NOT_ON_GPUS = ("test_stock_keras", "test_keras", "test_one_replica_is_stock_keras")

if keras.backend.backend() == "tensorflow":
    # PyTorch's optimizers import Triton, if it is there, and both Triton and TensorFlow contain
    # LLVM: loaded by one process, they end it with a segmentation fault.
    sys.modules["triton"] = None

    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    gpus = tf.config.list_physical_devices("GPU")[:2]
    if gpus:  # 2 GiB each, to leave the rest to processes that tests start
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            parts = [tf.config.LogicalDeviceConfiguration(2048)] * (2 // len(gpus))
            tf.config.set_logical_device_configuration(gpu, parts)
        tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 is float32

# Fixtures that train: their tests run in one process, which trains once.
SHARED = {"digits_run", "mnist_run", "elsewhere"}
# They start many processes, or take long: nothing else should have to wait for them at the end.
FIRST = (
    "tests/layers/backends_test.py",
    "tests/models/backends_test.py",
    "tests/trainers",
    "tests/tuning",
    "tests/using_test.py",
)

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow only"
)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))
    for item in items:
        for fixture in SHARED & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(fixture))
        if item.get_closest_marker("tensorflow"):
            item.add_marker(needs_tensorflow)
        if DEVICES == "gpu" and item.nodeid.startswith(ON_GPUS_TOO) and on_gpus_too(item):
            item.add_marker(pytest.mark.gpu)
        elif item.get_closest_marker("gpu") and DEVICES is None:
            item.add_marker(pytest.mark.skip(reason="needs KERAS_ELU_TEST_DEVICES=gpu"))


def on_gpus_too(item):
    apart = any(item.get_closest_marker(name) for name in ("slow", "multiworker"))
    return not apart and not item.originalname.startswith(NOT_ON_GPUS)


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
