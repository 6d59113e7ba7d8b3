import keras
import pytest

from keras_elu import data


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder in which the digits are prepared."""
    folder = tmp_path_factory.mktemp("data")
    data.load("digits", data_dir=folder)
    return folder


@pytest.fixture(autouse=True)
def _same_precision():
    """A run sets the precision for its process, which here lives on."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
