"""Activations by name, class, object and function."""

import keras
import numpy as np
import pytest

from keras_elu import layers

NAMES = [
    "celu", "elu", "gelu", "leaky_relu", "parametric_elu", "relu", "selu", "shifted_relu", "silu",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_a_new_layer_at_every_call(name):
    make = layers.get(name)
    first, second = make(), make()
    assert isinstance(first, keras.layers.Layer)
    assert first is not second
    assert np.isfinite(keras.ops.convert_to_numpy(first(np.linspace(-3, 3, 8)[None]))).all()


def test_the_leaky_slope_is_the_papers():
    assert float(layers.get("leaky_relu")()(np.array([-1.0]))[0]) == pytest.approx(-0.1)


def test_a_layer_is_copied_so_that_no_two_places_share_weights():
    original = layers.ParametricELU(0.5)
    first, second = layers.get(original)(), layers.get(original)()
    assert first is not original
    assert first is not second
    assert first.get_config() | {"name": ""} == original.get_config() | {"name": ""}


def test_a_class_and_a_function_are_called():
    assert isinstance(layers.get(layers.ShiftedReLU)(), layers.ShiftedReLU)
    assert layers.get(lambda: layers.ELU(0.3))().alpha == 0.3


@pytest.mark.parametrize("unknown", ["eluu", "", 3, None])
def test_anything_else_is_refused_with_the_names(unknown):
    with pytest.raises(ValueError, match=r"Unknown activation .*: use one of celu, elu"):
        layers.get(unknown)
