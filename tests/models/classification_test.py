"""A classifier is a functional model: it comes back from its file with its description."""

import keras
import numpy as np
import pytest

from keras_elu import models


def parts():
    inputs = keras.Input((4, 4, 1))
    return inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs))


@pytest.mark.parametrize("by_name", [False, True])
def test_it_comes_back_from_its_file_with_its_description(by_name, tmp_path):
    inputs, outputs = parts()
    args, kwargs = ((), {"inputs": inputs, "outputs": outputs}) if by_name else (parts(), {})
    description = {"class_names": ["cat", "dog"], "image_size": [4, 4], "crop": 0.875}
    model = models.Classifier(*args, **kwargs, name="animals", **description)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is models.Classifier
    assert loaded.name == "animals"
    assert loaded.class_names == ("cat", "dog")
    assert (loaded.image_size, loaded.crop) == ((4, 4), 0.875)
    pixels = np.arange(32, dtype="float32").reshape(2, 4, 4, 1)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))
