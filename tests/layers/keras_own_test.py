"""The tests that Keras ships for its own layer, with ours in its place."""

import pytest

from keras_elu import layers

keras_elu_test = pytest.importorskip(
    "keras.src.layers.activations.elu_test", reason="this Keras comes without its tests"
)


class TestELU(keras_elu_test.ELUTest):
    @pytest.fixture(autouse=True)
    def _ours(self, monkeypatch):
        monkeypatch.setattr(keras_elu_test.elu, "ELU", layers.ELU)
