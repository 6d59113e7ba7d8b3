"""The doctor on two arranged cases, one of which the input limits and the other the step."""

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


def test_an_input_that_is_slow_limits(examined, monkeypatch):
    made = data.Dataset.training

    def slow(self, *arguments, **keywords):
        def wait(images, labels):
            tf.numpy_function(lambda: time.sleep(0.1), [], [])
            return images, labels

        return made(self, *arguments, **keywords).map(wait)

    monkeypatch.setattr(data.Dataset, "training", slow)
    said = examined("--batch_size", "8")
    assert "THE INPUT LIMITS" in said
    assert "since it waits" in said
    (line,) = [line for line in said.splitlines() if line.startswith("input alone")]
    assert 40 < float(line.split()[2].replace(",", "")) < 85  # 8 images in a tenth of a second


def test_a_step_that_is_slow_limits(examined):
    said = examined("--batch_size", "1024", "--validation_examples", "0", "--jit_compile", "off")
    assert "THE STEP LIMITS" in said


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "Nothing is not a trainer's script"),
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
