"""The doctor finds the bottleneck of two arranged cases, also when the loss is not finite."""

import re
import time

import pytest
import tensorflow as tf

from keras_elu import data, doctor


@pytest.fixture
def examined(monkeypatch, data_dir, capsys):
    monkeypatch.setattr(doctor, "SECONDS", 1.0)

    def examined(*flags):
        flags = ("trainers/mnist.py", "--dataset", "digits", "--data_dir", str(data_dir), *flags)
        assert doctor.main(flags) == 0
        return capsys.readouterr().out

    return examined


def test_a_slow_input_is_the_bottleneck(examined, monkeypatch):
    made = data.Dataset.training

    def slow(self, *arguments, **keywords):
        def wait(images, labels):
            tf.numpy_function(lambda: time.sleep(0.1), [], [])
            return images, labels

        return made(self, *arguments, **keywords).map(wait)

    monkeypatch.setattr(data.Dataset, "training", slow)
    said = examined("--batch_size", "8")
    assert "Bottleneck: input." in said
    assert "The input waits and leaves" in said
    (line,) = [line for line in said.splitlines() if line.startswith("input alone")]
    assert 40 < float(line.split()[2].replace(",", "")) < 85  # 8 images in a tenth of a second


def test_a_slow_step_is_the_bottleneck(examined):
    said = examined("--batch_size", "1024", "--validation_examples", "0", "--jit_compile", "off")
    assert "Bottleneck: step." in said


@pytest.mark.slow
def test_a_loss_that_is_not_finite_does_not_hinder_the_measurement(examined):
    said = examined("--batch_size", "64", "--learning_rate", "1e30", "--jit_compile", "off")
    assert "Bottleneck: " in said
    assert re.search(r"The loss of step \d+ was not finite", said)
    speeds = [float(line.split()[-2].replace(",", "")) for line in said.splitlines()[2:4]]
    assert min(speeds) > 0


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "python -m keras_elu.doctor trainers/mnist.py"),
        (("nowhere.py",), "nowhere.py is not a trainer's script"),
        (("trainers/mnist.py", "--bogus", "1"), "--bogus"),
        (("trainers/mnist.py", "--strategy", "multiworker"), "cannot be examined"),
    ],
)
def test_a_wrong_command_gets_one_sentence(arguments, wanted, capsys):
    assert doctor.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert wanted in shown.err
    assert len(shown.err.splitlines()) == 1
