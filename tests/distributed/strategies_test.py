"""Which reduction a mirrored strategy gets."""

import types

import pytest
import tensorflow as tf

from keras_elu.distributed import strategies

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("logical", "visible", "on_one"), [(2, 1, True), (4, 2, True), (2, 2, False), (0, 0, False)]
)
def test_replicas_that_share_a_card_are_summed_without_nccl(logical, visible, on_one, monkeypatch):
    devices = {
        "GPU": [types.SimpleNamespace(name=f"GPU:{i}") for i in range(logical)],
        "CPU": [types.SimpleNamespace(name="CPU:0")],
    }
    monkeypatch.setattr(tf.config, "list_logical_devices", devices.get)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(range(visible)))
    monkeypatch.setattr(
        tf.distribute, "MirroredStrategy", lambda names, cross_device_ops: (names, cross_device_ops)
    )
    names, reduction = strategies.strategy.__wrapped__("mirrored")
    assert names == ([f"GPU:{i}" for i in range(logical)] or ["CPU:0"])
    assert isinstance(reduction, tf.distribute.ReductionToOneDevice) == on_one
    assert on_one or reduction is None
