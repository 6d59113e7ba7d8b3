"""Models from public bug reports about replicas: right or refused, against stock Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from right_or_refused import (
    SETTINGS,
    SEVERAL_PIECES,
    Case,
    Refused,
    assert_right,
    compiled,
    made,
    one_sentence,
    ours,
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


def signal_to_noise(y, p):
    """A ratio to the greatest value of the whole batch."""
    return 10 * ops.log10(ops.max(y) ** 2 / ops.mean((y - p) ** 2))


def hard_triplets(y, p):
    """Pairs each row with the farthest row of its class, and the nearest of another, in a batch."""
    p = ops.normalize(p)
    distance = 1 - ops.matmul(p, ops.transpose(p))
    same = ops.equal(y, ops.transpose(y))
    farthest = ops.max(ops.where(same, distance, 0.0), 1)
    return ops.relu(farthest - ops.min(ops.where(same, 2.0, distance), 1) + 0.5)


class WordAccuracy(keras.metrics.Metric):
    """Counts in whole numbers which texts are read without error."""

    def __init__(self, name="words"):
        super().__init__(name=name)
        self.total = self.add_weight(shape=(), dtype="int32", initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", name="count")

    def update_state(self, y, p, sample_weight=None):
        shape = tf.shape(p)
        lengths = tf.fill([shape[0]], shape[1])
        (read,), _ = tf.nn.ctc_greedy_decoder(tf.transpose(p, [1, 0, 2]), lengths)
        read = tf.sparse.to_dense(read, default_value=-1)
        read = tf.pad(read, [[0, 0], [0, shape[1]]], constant_values=-1)[:, : y.shape[1]]
        right = tf.reduce_all(tf.equal(read, tf.cast(y, read.dtype)), 1)
        self.total.assign_add(tf.reduce_sum(tf.cast(right, "int32")))
        self.count.assign_add(shape[0])

    def result(self):
        return self.total / self.count


class MinibatchDiscrimination(layers.Layer):
    """Appends to each row how close it is to the other rows of the batch."""

    def call(self, x):
        distance = ops.sum(ops.abs(x[:, None] - x[None]), -1)
        return ops.concatenate([x, ops.sum(ops.exp(-distance), 1, keepdims=True)], -1)

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] + 1)


def transformer(cls):
    """A subclass that returns a dictionary, of which one part has no loss."""

    class Encoder(cls):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(3, activation="gelu"), layers.Dense(2)

        def call(self, x):
            hidden = self.hidden(x)
            return {"hidden": hidden, "logits": self.head(hidden)}

    model = Encoder()
    model.build((None, 4))
    return model


def determination(cls):
    """A model whose own loss is a ratio of two sums over the batch."""

    class R2(cls):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.sum((y - y_pred) ** 2) / ops.sum(y**2)

    inputs = keras.Input((4,))
    return R2(inputs, layers.Dense(2)(inputs))


def own_tracker(cls):
    """A model whose `compute_loss` adds what layers add, and keeps its own mean."""

    class Own(cls):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            self.tracker = keras.metrics.Mean(name="own_loss")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = ops.mean((y - y_pred) ** 2) + sum(self.losses)
            self.tracker.update_state(loss)
            return loss

        @property
        def metrics(self):
            return [self.tracker]

    inputs = keras.Input((4,))
    return Own(inputs, layers.Dense(2)(layers.ActivityRegularization(l2=0.1)(inputs)))


TEXTS = np.random.default_rng(1).integers(1, 3, (9, 2))
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
    "https://github.com/tensorflow/tensorflow/issues/39268": Case(
        lambda x: layers.Dense(2)(x), (X, Y), compiling=lambda: {"metrics": [signal_to_noise]}
    ),
    "https://github.com/tensorflow/tensorflow/issues/24226": Case(
        lambda x: layers.Dense(2)(layers.GRU(3, return_sequences=True)(x[..., None])),
        (X, RANDOM.normal(size=(9, 4, 2)).astype("float32"), np.abs(X)),
        compiling=lambda: {"weighted_metrics": ["mae"]},
    ),
    "https://github.com/tensorflow/tensorflow/issues/37561": Case(
        lambda x: layers.Dense(3)(x[..., None]),
        (X, TEXTS),
        compiling=lambda: {"loss": keras.losses.CTC(), "metrics": [WordAccuracy()]},
    ),
    "https://github.com/huggingface/transformers/issues/11265": Case(
        None,
        (X, {"hidden": Y[:, :1], "logits": Y}),
        model=transformer,
        compiling=lambda: {"loss": {"hidden": None, "logits": "mse"}},
    ),
    "https://github.com/tensorflow/tensorflow/issues/55321": Case(
        lambda x: layers.Dense(2)(x), (X, Y), compiling=lambda: {"loss": DividedByBatchSize()}
    ),
    "https://github.com/tensorflow/tensorflow/issues/34203": Case(
        lambda x: layers.Dense(2)(Running()(x)), (X, Y)
    ),
}
# In pieces, by what the sentence names.
REFUSED = {
    "https://github.com/google-deepmind/sonnet/issues/209": (
        Case(lambda x: layers.Dense(2)(Quantizer()(layers.Dense(4)(x))), (X, Y)),
        "codes",
    ),
    "https://github.com/tensorflow/tensorflow/issues/33072": (
        Case(
            lambda x: layers.Dense(2)(layers.Flatten()(layers.ConvLSTM2D(2, 2, stateful=True)(x))),
            (FILMS, Y[:8]),
            inputs=lambda: keras.Input(batch_shape=(4, 2, 3, 3, 1)),
        ),
        "stateful",
    ),
    "https://github.com/tensorflow/tensorflow/issues/47344": (
        Case(
            lambda x: layers.Dense(3)(x),
            (X, np.arange(9)[:, None] % 2),
            compiling=lambda: {"loss": hard_triplets},
        ),
        "hard_triplets",
    ),
    "https://github.com/keras-team/keras/pull/3677": (
        Case(lambda x: layers.Dense(2)(MinibatchDiscrimination()(x)), (X, Y)),
        "depend on the other rows",
    ),
    "https://github.com/tensorflow/tensorflow/issues/85174": (
        Case(None, (X, Y), model=determination),
        "compute_loss of R2",
    ),
    "https://github.com/tensorflow/tensorflow/issues/55216": (
        Case(None, (X, Y), model=own_tracker),
        "own_loss",
    ),
}


QUICK = ("issues/39268", "keras/pull/3677")


def reports(table):
    """The reports of a table, most of which are for the slow half."""
    return [
        report if report.endswith(QUICK) else pytest.param(report, marks=pytest.mark.slow)
        for report in table
    ]


@pytest.mark.parametrize("report", reports(RIGHT))
def test_the_model_of_a_report_is_right(report):
    expected = stock(RIGHT[report])
    for setting in SETTINGS:
        assert_right(RIGHT[report], setting, expected, 2e-5)


@pytest.mark.parametrize("report", reports(REFUSED))
def test_the_model_of_a_report_is_refused_in_pieces(report):
    case, message = REFUSED[report]
    assert_right(case, "one replica", stock(case), 2e-5)
    for setting in SEVERAL_PIECES:
        with pytest.raises(Refused, match=message):
            ours(case, setting)


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


def trained_gan(cls, strategy, toggled):
    """Trains a critic and a generator in turn, a batch at a time, as Keras-GAN does."""
    keras.utils.set_random_seed(1)
    compiling = {"loss": "binary_crossentropy", "jit_compile": False}
    with training.strategy(strategy).scope():
        x, z = keras.Input((4,)), keras.Input((2,))
        hidden = layers.Dense(3, activation="leaky_relu")(x)
        critic = cls(x, layers.Dense(1, activation="sigmoid")(hidden))
        critic.compile(keras.optimizers.Adam(0.01, 0.5), metrics=["accuracy"], **compiling)
        generator = cls(z, layers.Dense(4)(z))
        critic.trainable = False
        both = cls(z, critic(generator(z)))
        both.compile(keras.optimizers.Adam(0.01, 0.5), **compiling)
    random = np.random.default_rng(0)
    seen = []
    for _ in range(3):
        noise = random.normal(size=(7, 2)).astype("float32")
        made_up = generator.predict_on_batch(noise)
        critic.trainable = toggled
        seen.append(critic.train_on_batch(X[:7], np.ones((7, 1))))
        seen.append(critic.train_on_batch(made_up, np.zeros((7, 1))))
        critic.trainable = False
        seen.append(both.train_on_batch(noise, np.ones((7, 1))))
        seen.append(critic.test_on_batch(made_up, np.zeros((7, 1))))
    return [*seen, *critic.get_weights(), *generator.get_weights()]


@pytest.mark.slow
@pytest.mark.parametrize("toggled", [True, False], ids=["trainable when it trains", "never"])
def test_a_gan_trains_on_single_batches(toggled):
    """https://github.com/eriklindernoren/Keras-GAN/issues/181"""
    expected = trained_gan(keras.Model, "default", toggled)
    for strategy in ("default", "mirrored"):
        got = trained_gan(training.DistributedModel, strategy, toggled)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-6)


def trained_on_buckets(cls, strategy, **keywords):
    """Trains on batches of texts of one length each, which have different numbers of rows."""
    random = np.random.default_rng(0)
    texts = [random.integers(1, 4, length) for length in (2, 5, 3, 5, 2, 6, 3, 2, 5)]
    data = tf.data.Dataset.from_generator(
        lambda: zip(texts, Y, strict=True),
        output_signature=(tf.TensorSpec([None], "int32"), tf.TensorSpec([2], "float32")),
    )
    data = data.bucket_by_sequence_length(lambda x, y: tf.shape(x)[0], [3, 5], [3, 2, 4])
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((None,), dtype="int32")
        words = layers.Embedding(4, 3, mask_zero=True)(inputs)
        model = cls(inputs, layers.Dense(2)(layers.GRU(3)(words)))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False, **keywords)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    return [*history.values(), *model.get_weights(), model.predict(data, verbose=0)]


@pytest.mark.slow
def test_batches_have_texts_of_several_lengths():
    """https://github.com/tensorflow/tensorflow/issues/34358 and 30843, with validation data."""
    expected = trained_on_buckets(keras.Model, "default")
    for strategy, parts in SETTINGS.values():
        got = trained_on_buckets(training.DistributedModel, strategy, micro_batches=parts)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-6)


def embedded_by_adam(cls, strategy, **keywords):
    """The weights of an Embedding before and after three steps of Adam."""
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        inputs = keras.Input((2,), dtype="int64")
        model = cls(inputs, layers.Flatten()(layers.Embedding(4, 1)(inputs)))
        optimizer = keras.optimizers.Adam(0.1, epsilon=1e-3)
        model.compile(optimizer, "mse", jit_compile=False, **keywords)
    before = model.get_weights()[0][:, 0]
    model.fit(TEXTS[:4], Y[:4], batch_size=4, epochs=3, shuffle=False, verbose=0)
    return before, model.get_weights()[0][:, 0]


@pytest.mark.slow
def test_an_index_that_occurs_twice_in_a_batch_counts_once_in_adam():
    """https://github.com/tensorflow/tensorflow/issues/53160; NumPy in float64 is the oracle."""
    before, by_stock = embedded_by_adam(keras.Model, "default")
    w, first, second = before.astype("float64"), np.zeros(4), np.zeros(4)
    for step in (1, 2, 3):
        gradient = np.zeros(4)
        np.add.at(gradient, TEXTS[:4], 2 * (w[TEXTS[:4]] - Y[:4]) / 8)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        w -= rate * first / (np.sqrt(second) + 1e-3)
    assert np.abs(by_stock - w).max() > 0.1
    for strategy, parts in SETTINGS.values():
        _, after = embedded_by_adam(training.DistributedModel, strategy, micro_batches=parts)
        np.testing.assert_allclose(after, w, 1e-4)
