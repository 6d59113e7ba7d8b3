"""Every network for CIFAR on two replicas, with XLA and without, and in the commands."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_elu import audit, doctor, models
from keras_elu.recipes import cifar_networks

NETWORKS = (
    *("alexnet_cifar", "deeply_supervised", "network_in_network", "maxout", "all_cnn", "highway"),
    "fractional_max_pooling",
)
pytestmark = pytest.mark.slow


@pytest.fixture
def trainer(monkeypatch, data_dir):
    """The command line of a trainer with small images, and with a narrow widest network."""
    row = cifar_networks.NETWORKS["fractional_max_pooling"]
    narrow = dataclasses.replace(row, arguments={"width": 2}, hundred={})
    monkeypatch.setitem(cifar_networks.NETWORKS, "fractional_max_pooling", narrow)

    def flags(name, *others):
        # The digits of 8 pixels are too small for all_cnn.
        dataset = "synthetic" if name == "all_cnn" else "digits"
        return [
            *("trainers/cifar.py", "--network", name, "--dataset", dataset, "--batch_size", "8"),
            *("--data_dir", str(data_dir), *others),
        ]

    return flags


@pytest.mark.parametrize("jit_compile", ["on", "off"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_two_replicas_is_that_on_one(name, jit_compile, trainer, capsys):
    flags = trainer(name, "--strategy", "mirrored", "--jit_compile", jit_compile)
    code = audit.main(flags)
    shown = capsys.readouterr()
    assert code == 0, shown.out + shown.err
    assert "NOT OK" not in shown.out
    masks = next(line for line in shown.out.splitlines() if line.startswith("dropout masks"))
    assert ("no random layers" in masks) == (name == "alexnet_cifar")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_doctor_examines_it(name, trainer, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "SECONDS", 0.5)
    assert doctor.main(trainer(name)) == 0
    assert "Bottleneck: " in capsys.readouterr().out


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_gives_the_same(name, tmp_path):
    keras.utils.set_random_seed(0)
    arguments = {"width": 2} if name == "fractional_max_pooling" else {}
    model = getattr(models, name)((10, 10, 3), **arguments)
    x = np.random.default_rng(0).normal(size=(2, 10, 10, 3)).astype("float32")
    model.export(tmp_path, verbose=False)
    loaded = tf.saved_model.load(tmp_path)  # kept, since its variables live as long as it
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-4, atol=1e-5)
