"""Initial weights."""

import keras
import numpy as np
import pytest
import torch

from keras_elu.initializers import Dirac


@pytest.mark.parametrize(
    "shape", [(3, 3, 4, 4), (3, 3, 2, 5), (5, 3, 4, 2), (2, 2, 3, 3), (3, 4, 6)]
)
def test_the_first_filters_are_pytorchs_dirac(shape):
    *sizes, channels, filters = shape
    expected = torch.nn.init.dirac_(torch.empty(filters, channels, *sizes)).numpy()
    expected = np.moveaxis(expected, (0, 1), (-1, -2))
    found = keras.ops.convert_to_numpy(Dirac("ones")(shape))
    assert found.shape == shape
    copies = min(channels, filters)
    np.testing.assert_array_equal(found[..., :copies], expected[..., :copies])
    assert (found[..., copies:] == 1).all()


def test_the_other_filters_are_distributed_as_pytorchs():
    found = keras.ops.convert_to_numpy(Dirac()((3, 3, 16, 512)))[..., 16:]
    own = torch.nn.Conv2d(16, 496, 3).weight.detach().numpy()
    bound = 1 / np.sqrt(3 * 3 * 16)
    for values in (found, own):
        assert 0.999 * bound < np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)


def test_a_convolution_that_starts_so_copies_its_input_first():
    layer = keras.layers.Conv2D(5, 3, padding="same", kernel_initializer=Dirac())
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y[..., :3], x, atol=1e-6)
    assert abs(y[..., 3:] - x[..., :2]).max() > 0.1
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Dirac("ones"))
    )
    assert isinstance(again.rest, keras.initializers.Ones)
