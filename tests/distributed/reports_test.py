"""Models from public bug reports about replicas: right or refused, against stock Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from right_or_refused import (
    SETTINGS,
    Case,
    assert_right,
    assert_right_or_refused,
    compiled,
    made,
    one_sentence,
    stock,
)

from keras_elu import training

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(9, 4)).astype("float32")
Y = RANDOM.normal(size=(9, 2)).astype("float32")


def strings(x):
    """A lookup of words, joined with numbers."""
    words = layers.StringLookup(vocabulary=["foo", "bar", "baz"])(x["words"])
    words = layers.Flatten()(layers.Embedding(4, 3)(words))
    return layers.Dense(2)(layers.Concatenate()([words, x["numbers"]]))


WORDS = np.array([["foo", "bar"], ["baz", "?"], ["bar", "bar"]] * 3)


class DividedByBatchSize(keras.losses.Loss):
    """Sums over the rows and divides by a fixed batch size."""

    def call(self, y, p):
        return ops.sum(ops.mean(ops.abs(y - p), -1)) * (1 / 4)


class Quantizer(layers.Layer):
    """The codebook of a VQ-VAE: a trainable variable that is assigned a moving average."""

    def build(self, shape):
        self.codes = self.add_weight(shape=(3, 4), initializer="random_normal", name="codes")

    def call(self, x, training=False):
        distance = ops.sum((x[:, None] - self.codes[None]) ** 2, -1)
        chosen = ops.one_hot(ops.argmin(distance, -1), 3, dtype=x.dtype)
        if training:
            mean = ops.matmul(ops.transpose(chosen), x) / (ops.sum(chosen, 0)[:, None] + 1)
            self.codes.assign(0.9 * self.codes + 0.1 * mean)
        return x + ops.stop_gradient(ops.matmul(chosen, self.codes) - x)


class Penalty(layers.Layer):
    """Takes the labels as an input and adds the model's only loss."""

    def call(self, inputs):
        y, p = inputs
        self.add_loss(ops.mean(ops.sum((y - p) ** 2, -1)))
        return p


def label_as_input(x):
    return Penalty()([x["y"], layers.Dense(2)(x["x"])])


class Running(layers.Layer):
    """Keeps a running statistic in a variable that is not trainable."""

    def build(self, shape):
        self.record = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="record", aggregation="mean"
        )

    def call(self, x):
        self.record.assign(0.9 * self.record + 0.1 * ops.mean(x))
        return x


FILMS = RANDOM.normal(size=(8, 2, 3, 3, 1)).astype("float32")
RIGHT = {
    "https://github.com/keras-team/keras/issues/19891": Case(
        lambda x: layers.Dense(2, kernel_regularizer="l2")(x), (X, Y), epochs=2
    ),
    "https://github.com/keras-team/keras/issues/21172": Case(
        strings,
        ({"words": tf.constant(WORDS), "numbers": X}, Y),
        inputs=lambda: {
            "words": keras.Input((2,), dtype="string", name="words"),
            "numbers": keras.Input((4,), name="numbers"),
        },
    ),
    "https://github.com/tensorflow/tensorflow/issues/35093": Case(
        label_as_input,
        ({"x": X, "y": Y},),
        inputs=lambda: {"x": keras.Input((4,), name="x"), "y": keras.Input((2,), name="y")},
        compiling=lambda: {"loss": None},
    ),
    "https://github.com/tensorflow/tensorflow/issues/37834": Case(
        lambda x: layers.Dense(2)(
            layers.Flatten()(
                layers.SpectralNormalization(layers.Conv2D(2, 2))(layers.Reshape((2, 2, 1))(x))
            )
        ),
        (X, Y),
    ),
    "https://github.com/tensorflow/tensorflow/issues/45594": Case(
        lambda x: layers.Dense(2)(layers.Flatten()(layers.Conv1D(2, 2)(x[..., None]))),
        (X, Y),
        batch_size=8,  # the last batch has one row
    ),
    "https://github.com/tensorflow/tensorflow/issues/48152": Case(
        lambda x: layers.Dense(1, activation="sigmoid")(x),
        (X, (Y[:, :1] > 0).astype("float32")),
        compiling=lambda: {
            "loss": "binary_crossentropy",
            "metrics": [keras.metrics.AUC(name="auc"), keras.metrics.F1Score(name="f1")],
        },
    ),
    "https://github.com/tensorflow/tensorflow/issues/33715": Case(
        lambda x: {"a": layers.Dense(2, name="a")(x), "b": layers.Dense(1, name="b")(x)},
        (X, {"a": Y, "b": Y[:, :1]}),
        compiling=lambda: {"loss": {"a": "mse", "b": "mse"}},
        batch_size=9,
    ),
}
RIGHT_OR_REFUSED = {
    "https://github.com/tensorflow/tensorflow/issues/55321": Case(
        lambda x: layers.Dense(2)(x), (X, Y), compiling=lambda: {"loss": DividedByBatchSize()}
    ),
    "https://github.com/google-deepmind/sonnet/issues/209": Case(
        lambda x: layers.Dense(2)(Quantizer()(layers.Dense(4)(x))), (X, Y)
    ),
    "https://github.com/tensorflow/tensorflow/issues/34203": Case(
        lambda x: layers.Dense(2)(Running()(x)), (X, Y)
    ),
    "https://github.com/tensorflow/tensorflow/issues/33072": Case(
        lambda x: layers.Dense(2)(layers.Flatten()(layers.ConvLSTM2D(2, 2, stateful=True)(x))),
        (FILMS, Y[:8]),
        inputs=lambda: keras.Input(batch_shape=(4, 2, 3, 3, 1)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("report", RIGHT)
def test_the_model_of_a_report_is_right(report):
    expected = stock(RIGHT[report])
    for setting in SETTINGS:
        assert_right(RIGHT[report], setting, expected, 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("report", RIGHT_OR_REFUSED)
def test_the_model_of_a_report_is_right_or_refused(report):
    expected = stock(RIGHT_OR_REFUSED[report])
    for setting in SETTINGS:
        assert_right_or_refused(RIGHT_OR_REFUSED[report], setting, expected, 2e-5)


def test_a_gan_with_a_train_step_is_refused():
    """https://github.com/keras-team/keras/issues/20164"""

    class WGAN(training.DistributedModel):
        def __init__(self, critic, generator):
            super().__init__()
            self.critic, self.generator = critic, generator

        def compile(self, critic_optimizer, generator_optimizer):
            super().compile(loss="mse")
            self.critic_optimizer = critic_optimizer
            self.generator_optimizer = generator_optimizer

        def train_step(self, data):
            return {}

    gan = WGAN(keras.Sequential([layers.Dense(1)]), keras.Sequential([layers.Dense(4)]))
    with pytest.raises(ValueError, match="train_step") as caught:
        gan.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    one_sentence(caught.value)


@pytest.mark.slow
def test_training_continues_with_a_model_that_is_loaded_in_the_scope(tmp_path):
    """https://github.com/keras-team/keras/issues/16788: the optimizer's averages are kept."""
    case = Case(
        lambda x: layers.Dense(2)(x),
        (X, Y),
        compiling=lambda: {"optimizer": keras.optimizers.Adam(0.1)},
    )
    fitting = {"batch_size": 4, "verbose": 0, "shuffle": False}
    model = compiled(case, made(case, training.DistributedModel, "mirrored"), "mirrored")
    model.fit(X, Y, **fitting)
    model.save(tmp_path / "model.keras")
    with training.strategy("mirrored").scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        loaded = training.DistributedModel(loaded.inputs, loaded.outputs)
        loaded.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=False)
        loaded.optimizer.build(loaded.trainable_variables)
    for mine, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        mine.assign(other)
    model.fit(X, Y, **fitting)
    loaded.fit(X, Y, **fitting)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
