"""Layers that assign variables or draw random numbers: right or refused, against stock Keras."""

import dataclasses
import functools
import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from right_or_refused import (
    ROWS,
    SETTINGS,
    SEVERAL_PIECES,
    Case,
    Refused,
    assert_right,
    assert_right_or_refused,
    compiled,
    differences,
    made,
    ours,
    slow_but,
    stock,
)

from keras_elu import training

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 4)).astype("float32")
Y = RANDOM.normal(size=(ROWS, 2)).astype("float32")
# Batches whose halves are equal: a layer computes the same for a half as for the whole.
TWICE = np.tile(RANDOM.normal(size=(2, 4)).astype("float32"), (4, 1))
TWICE_Y = np.tile(Y[:2], (4, 1))
IMAGES = np.tile(RANDOM.uniform(0, 255, (2, 8, 8, 3)).astype("float32"), (4, 1, 1, 1))

ASSIGNING = {"BatchNormalization", "SpectralNormalization"}
FOREIGN = {"JaxLayer", "FlaxLayer"}  # need another framework
RECURRENT = {
    "RNN",
    "LSTM",
    "GRU",
    "SimpleRNN",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
}
# Layers that draw random numbers, applied to vectors.
DRAWING = {
    "AlphaDropout": lambda x: layers.AlphaDropout(0.5)(x),
    "Attention": lambda x: layers.Attention(dropout=0.5)([series(x), series(x)]),
    "Dropout": lambda x: layers.Dropout(0.5)(x),
    "GRUCell": lambda x: layers.GRU(2, dropout=0.5, recurrent_dropout=0.5)(series(x)),
    "GaussianDropout": lambda x: layers.GaussianDropout(0.5)(x),
    "GaussianNoise": lambda x: layers.GaussianNoise(0.5)(x),
    "LSTMCell": lambda x: layers.LSTM(2, dropout=0.5)(series(x)),
    "SimpleRNNCell": lambda x: layers.SimpleRNN(2, dropout=0.5)(series(x)),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(1, 2, dropout=0.5)(
        series(x), series(x)
    ),
    "SpatialDropout1D": lambda x: layers.SpatialDropout1D(0.5)(series(x)),
}
# Layers that draw random numbers for images, with their arguments.
DRAWING_IMAGES = {
    "AugMix": {},
    "CutMix": {},
    "MixUp": {},
    "RandAugment": {},
    "RandomBrightness": {"factor": 0.5},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {"brightness_factor": 0.5},
    "RandomContrast": {"factor": 0.5},
    "RandomCrop": {"height": 6, "width": 6},
    "RandomElasticTransform": {},
    "RandomErasing": {},
    "RandomFlip": {},
    "RandomGaussianBlur": {},
    "RandomGrayscale": {},
    "RandomHue": {"factor": 0.5},
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.5},
    "RandomSaturation": {"factor": 0.5},
    "RandomSharpness": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
    "RandomZoom": {"height_factor": 0.5},
    "Solarization": {},
}


def series(x):
    return layers.Reshape((2, 2))(x)


def run_by_call(cls, name="call", seen=None):
    """Returns the source of a layer's `call` and of every method that it calls."""
    seen = {} if seen is None else seen
    for base in cls.__mro__:
        method = vars(base).get(name)
        if base is not layers.Layer and inspect.isfunction(method) and (base, name) not in seen:
            seen[base, name] = inspect.getsource(method)
            for called in re.findall(r"(?:self|super\(\))\.(\w+)\(", seen[base, name]):
                run_by_call(cls, called, seen)
    return seen


def draws(cls):
    """Returns whether a class, or one of its bases, creates a seed generator."""
    bases = (c for c in cls.__mro__ if c.__module__.startswith("keras.src.layers"))
    general = ("Layer", "DataLayer", "TFDataLayer")  # which only copy generators for tf.data
    return any("SeedGenerator(" in inspect.getsource(c) for c in bases if c.__name__ not in general)


def test_no_layer_of_keras_that_changes_a_variable_is_missing():
    classes = {
        name: value
        for name, value in vars(layers).items()
        if inspect.isclass(value) and issubclass(value, layers.Layer) and value is not layers.Layer
    }
    assigning = {
        name
        for name, cls in classes.items()
        if any(".assign" in source for source in run_by_call(cls).values())
    }
    assert assigning == ASSIGNING | RECURRENT | FOREIGN
    drawing = {name for name, cls in classes.items() if draws(cls)}
    inherited = {"SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"}
    within = {"MultiHeadAttention"}  # draws in a layer of its own
    known = {*DRAWING, *DRAWING_IMAGES} | inherited | {"AdditiveAttention"}
    assert drawing == known - within


# Layers of Keras.


def assigning(x):
    """A network with a branch for each layer that assigns."""
    image = layers.Reshape((2, 2, 1))(x)
    branches = [
        layers.SpectralNormalization(layers.Dense(2), name="spectral")(x),
        layers.Flatten()(layers.SpectralNormalization(layers.Conv2D(2, 2), 2, name="conv")(image)),
        layers.BatchNormalization(momentum=0.5, name="batch")(x),
        layers.BatchNormalization(momentum=0.5, renorm=False, scale=False, name="images")(image),
        layers.BatchNormalization(momentum=0.5, trainable=False, name="frozen")(x),
        layers.TimeDistributed(layers.BatchNormalization(momentum=0.5), name="distributed")(
            series(x)
        ),
    ]
    branches = [layers.Flatten()(branch) for branch in branches]
    return layers.Dense(2, name="joined")(layers.Concatenate()(branches))


KERAS = Case(assigning, (TWICE, TWICE_Y))


@functools.cache
def stock_of_keras():
    return stock(KERAS)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_layers_of_keras_that_assign_end_as_in_stock(setting):
    got = ours(KERAS, setting)
    wrong = differences(got, stock_of_keras(), 2e-5)
    assert not wrong, wrong


@pytest.mark.parametrize("setting", slow_but(SETTINGS, "two replicas"))
def test_moving_statistics_are_the_means_of_those_of_the_pieces(setting):
    """NumPy is the oracle. The seven rows of a batch are split into uneven pieces."""
    pieces = {
        "one replica": (X[:7],),
        "two replicas": (X[:3], X[3:7]),
        "two micro-batches": (X[:3], X[3:7]),
    }[setting]
    network = lambda x: layers.BatchNormalization(momentum=0.0)(x)  # noqa: E731
    got = ours(Case(network, (X[:7], X[:7]), batch_size=7), setting)
    mean, variance = list(got.items())[3][1], list(got.items())[4][1]
    np.testing.assert_allclose(mean, sum(len(p) / 7 * p.mean(0) for p in pieces), 1e-4, 1e-6)
    np.testing.assert_allclose(variance, sum(len(p) / 7 * p.var(0) for p in pieces), 1e-4, 1e-6)


def drawing(x):
    branches = [layers.Flatten()(make(x)) for make in DRAWING.values()]
    return layers.Dense(2, name="joined")(layers.Concatenate()(branches))


def drawing_images(names):
    def network(x):
        branches = [getattr(layers, name)(**DRAWING_IMAGES[name])(x) for name in names]
        branches = [layers.GlobalAveragePooling2D()(branch) for branch in branches]
        joined = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
        return layers.Dense(2, name="joined")(layers.Rescaling(1 / 255)(joined))

    return network


RANDOM_NETWORKS = {
    "vectors": Case(drawing, (TWICE, TWICE_Y)),
    "images": Case(
        drawing_images(["RandomFlip", "RandomTranslation", "RandomBrightness"]),
        (IMAGES, TWICE_Y),
    ),
    **{name: Case(drawing_images([name]), (IMAGES, TWICE_Y)) for name in DRAWING_IMAGES},
}


def seeds(model):
    return [v.numpy() for v in model.non_trainable_variables if v.name == "seed_generator_state"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM_NETWORKS)
def test_layers_that_draw_random_numbers(name):
    """One replica draws the numbers of stock; pieces draw their own, with equal final seeds."""
    case = RANDOM_NETWORKS[name]
    plain = compiled(case, made(case, keras.Model, "default"), "default")
    plain.fit(*case.data, batch_size=4, verbose=0, shuffle=False)
    drawn = seeds(plain)
    trained = plain.get_weights()
    plain.predict(case.data[0], batch_size=4, verbose=0)
    plain.evaluate(*case.data, batch_size=4, verbose=0)
    in_inference = seeds(plain)
    repeatable = name != "AugMix"  # which also draws by Python's random, whenever it is traced
    for setting, (strategy, parts) in SETTINGS.items():
        model = made(case, training.DistributedModel, strategy)
        start = seeds(model)
        compiled(case, model, strategy, micro_batches=parts)
        history = model.fit(*case.data, batch_size=4, verbose=0, shuffle=False).history
        assert np.isfinite(history["loss"]).all()
        assert len(start) > 0
        for a, b in zip(seeds(model), drawn, strict=True):
            if repeatable:
                np.testing.assert_array_equal(a, b, setting)
        if setting == "one replica" and repeatable:
            for a, b in zip(model.get_weights(), trained, strict=True):
                np.testing.assert_allclose(a, b, 1e-5, 1e-6, err_msg=setting)
        outputs = model.predict(case.data[0], batch_size=4, verbose=0)
        logs = model.evaluate(*case.data, batch_size=4, verbose=0)
        for a, b in zip(seeds(model), in_inference, strict=True):
            if repeatable:
                np.testing.assert_array_equal(a, b, setting)
        plain.set_weights(model.get_weights())
        if name != "RandomCrop":  # which resizes in inference
            expected = plain.predict(case.data[0], batch_size=4, verbose=0)
            np.testing.assert_allclose(outputs, expected, 1e-5, 1e-5, err_msg=setting)
            assert logs == pytest.approx(plain.evaluate(*case.data, batch_size=4, verbose=0), 1e-4)


SERIES = RANDOM.normal(size=(8, 3, 2)).astype("float32")


def stateful(layer):
    return Case(
        lambda x: layers.Dense(2)(layer(x)),
        (SERIES, RANDOM.normal(size=(8, 2)).astype("float32")),
        inputs=lambda: keras.Input(batch_shape=(4, 3, 2)),
    )


STATEFUL = {
    "LSTM": stateful(lambda x: layers.LSTM(2, stateful=True)(x)),
    "GRU": stateful(lambda x: layers.GRU(2, stateful=True)(x)),
    "SimpleRNN": stateful(lambda x: layers.SimpleRNN(2, stateful=True)(x)),
    "RNN of cells": stateful(
        lambda x: layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)], stateful=True)(x)
    ),
    "Bidirectional": stateful(lambda x: layers.Bidirectional(layers.GRU(2, stateful=True))(x)),
    "ConvLSTM1D": stateful(
        lambda x: layers.Flatten()(
            layers.ConvLSTM1D(2, 1, stateful=True)(layers.Reshape((3, 2, 1))(x))
        )
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_recurrent_layer_is_right_or_refused(name):
    """The state of such a layer belongs to the rows of a batch."""
    expected = stock(STATEFUL[name])
    for setting in SETTINGS:
        assert_right_or_refused(STATEFUL[name], setting, expected)


def quantized(cls):
    inputs = keras.Input((4,))
    model = cls(inputs, layers.Dense(2)(layers.Dense(8, activation="tanh")(inputs)))
    model.quantize("float8")
    return model


def test_float8_trains_as_in_stock_and_is_refused_in_pieces():
    """The scales are assigned what the optimizer gets as their gradients."""
    case = Case(None, (X, Y), model=quantized, epochs=2)
    assert_right_or_refused(case, "one replica", stock(case))
    for setting in SEVERAL_PIECES:
        with pytest.raises(Refused, match="is its new value, as in layers quantized to float8"):
            ours(case, setting)
    using = dataclasses.replace(case, uses=("evaluate", "predict"))
    expected = stock(using)
    for setting in SETTINGS:
        assert_right(using, setting, expected)


# Layers that users write.


class Stateful(layers.Layer):
    """Keeps a variable; subclasses define its start value and its change."""

    start = np.zeros(4, "float32")
    trains = False

    def build(self, shape):
        self.kept = self.add_weight(
            shape=self.start.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(self.start, dtype),
            dtype=self.start.dtype.name,
            trainable=self.trains,
            name="kept",
        )

    def call(self, x, training=False):
        self.kept.assign(self.changed(x))
        return x + ops.cast(ops.mean(self.kept), x.dtype) * 0.01

    def compute_output_shape(self, shape):
        return shape


class Counter(Stateful):
    start = np.zeros((), "int32")

    def changed(self, x):
        return self.kept + 1


class FloatCounter(Stateful):
    start = np.zeros((), "float32")

    def changed(self, x):
        return self.kept + 1


class CounterOfTraining(Stateful):
    start = np.zeros((), "int32")

    def call(self, x, training=False):
        if training:
            self.kept.assign(self.kept + 1)
        return x


class MovingMean(Stateful):
    def call(self, x, training=False):
        if training:
            self.kept.assign(0.5 * self.kept + 0.5 * ops.mean(x, 0))
        return x


class MovingMeanAlways(Stateful):
    def call(self, x):
        self.kept.assign(0.5 * self.kept + 0.5 * ops.mean(x, 0))
        return x


class Trained(Stateful):
    """Scales its weight before each use, like a spectral norm."""

    start = np.ones(4, "float32")
    trains = True

    def call(self, x, training=False):
        if training:
            self.kept.assign(self.kept * 0.9)
        return x * self.kept


class TrainedMean(Stateful):
    """A trainable variable that both follows the data and has a gradient."""

    start = np.ones(4, "float32")
    trains = True

    def call(self, x, training=False):
        if training:
            self.kept.assign(0.5 * self.kept + 0.5 * ops.mean(x, 0))
        return x * self.kept


class Clipped(Stateful):
    """Clips its weight, in training and inference."""

    start = np.linspace(-2, 2, 4).astype("float32")
    trains = True

    def call(self, x):
        self.kept.assign(ops.clip(self.kept, -1, 1))
        return x * self.kept


class Flag(Stateful):
    start = np.zeros((), "bool")

    def changed(self, x):
        return ops.logical_not(self.kept)


class UnusedTotal(Stateful):
    """A sum over the rows that the outputs do not depend on."""

    def call(self, x):
        self.kept.assign(self.kept + ops.sum(x, 0))
        return x


class UnusedRows(UnusedTotal):
    start = np.zeros((), "int32")

    def call(self, x):
        self.kept.assign(self.kept + ops.shape(x)[0])
        return x


RIGHT = {
    "counter": Counter,
    "float counter": FloatCounter,
    "counter of training": CounterOfTraining,
    "moving mean": MovingMean,
    "trained": Trained,
    "clipped": Clipped,
    "flag": Flag,
    "unused total": UnusedTotal,
    "unused rows": UnusedRows,
}


class Total(Stateful):
    def changed(self, x):
        return self.kept + ops.sum(x, 0)


class Rows(Stateful):
    start = np.zeros((), "int32")

    def changed(self, x):
        return self.kept + ops.shape(x)[0]


class Greatest(Stateful):
    def changed(self, x):
        return ops.maximum(self.kept, ops.max(x, 0))


class FarGreatest(Greatest):
    """A maximum that few inputs reach."""

    start = np.full(4, 10, "float32")


class Variance(Stateful):
    def changed(self, x):
        return 0.5 * self.kept + 0.5 * ops.var(x, 0)


class LastRow(Stateful):
    def changed(self, x):
        return x[-1]


class Normalised(Stateful):
    """A unit vector that follows the mean."""

    def changed(self, x):
        return ops.normalize(self.kept + ops.mean(x, 0))


class Queue(Stateful):
    """The queue of MoCo: the rows of the latest batches."""

    start = np.zeros((16, 4), "float32")

    def changed(self, x):
        return ops.concatenate([x, self.kept])[:16]


class Histogram(Stateful):
    start = np.zeros(3, "int32")

    def changed(self, x):
        return self.kept + ops.sum(
            ops.cast(ops.one_hot(ops.cast(x[:, 0] > 0, "int32"), 3), "int32"), 0
        )


class ByTensorFlow(layers.Layer):
    """Keeps a tf.Variable, which Keras does not track."""

    def build(self, shape):
        self.kept = tf.Variable(tf.zeros(()), trainable=False, name="kept")

    def call(self, x):
        self.kept.assign_add(1.0)
        return x + 0 * self.kept


class ByTensorFlowTrained(ByTensorFlow):
    def build(self, shape):
        self.kept = tf.Variable(tf.ones((4,)), name="kept")

    def call(self, x):
        return x * self.kept


class OfTheMean(ByTensorFlow):
    def build(self, shape):
        self.kept = tf.Variable(tf.zeros((4,)), trainable=False, name="kept")

    def call(self, x):
        self.kept.assign(0.5 * self.kept + 0.5 * tf.reduce_mean(x, 0))
        return x


class Hidden(ByTensorFlow):
    """Keeps a keras.Variable where Keras does not look for variables."""

    def build(self, shape):
        self.__dict__["kept"] = keras.Variable(0.0, trainable=False, name="kept")

    def call(self, x):
        self.kept.assign(self.kept + 1)
        return x + 0 * ops.convert_to_tensor(self.kept)


class InAFunction(ByTensorFlow):
    """Keeps a keras.Variable in an object that is not a layer."""

    class Holder:
        pass

    def build(self, shape):
        self.holder = self.Holder()
        self.holder.kept = keras.Variable(0.0, trainable=False, name="kept")

    @property
    def kept(self):
        return self.holder.kept

    def call(self, x):
        self.kept.assign(self.kept + 1)
        return x


RIGHT_OR_REFUSED = {
    "total": Total,
    "rows": Rows,
    "greatest": Greatest,
    "greatest, rarely reached": FarGreatest,
    "variance": Variance,
    "last row": LastRow,
    "normalised": Normalised,
    "queue": Queue,
    "histogram": Histogram,
    "moving mean always": MovingMeanAlways,
    "trained mean": TrainedMean,
    "tf.Variable": ByTensorFlow,
    "tf.Variable, trainable": ByTensorFlowTrained,
    "tf.Variable of a mean": OfTheMean,
    "hidden": Hidden,
    "held by an object": InAFunction,
}


def with_layers(*classes, keep=lambda model: []):
    def network(x):
        outputs = [cls(name=cls.__name__.lower())(x) for cls in classes]
        return layers.Dense(2)(layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0])

    return Case(network, (X, Y), state=keep)


WRITTEN = with_layers(*RIGHT.values())


@functools.cache
def stock_of_written():
    return stock(WRITTEN)


@pytest.mark.parametrize("setting", slow_but(SETTINGS, "two replicas"))
def test_what_a_written_layer_changes_ends_as_in_stock(setting):
    wrong = differences(ours(WRITTEN, setting), stock_of_written())
    assert not wrong, wrong


@pytest.mark.parametrize("name", slow_but(RIGHT_OR_REFUSED, "hidden"))
def test_what_a_written_layer_changes_otherwise_is_right_or_refused(name):
    untracked = issubclass(RIGHT_OR_REFUSED[name], ByTensorFlow)
    keep = lambda model: [model.layers[1].kept] if untracked else []  # noqa: E731
    case = with_layers(RIGHT_OR_REFUSED[name], keep=keep)
    expected = stock(case)
    for setting in SETTINGS:
        assert_right_or_refused(case, setting, expected)


class Inner(keras.Model):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.counter = Counter()
        self.normalised = layers.SpectralNormalization(layers.Dense(4))

    def call(self, x, training=False):
        return self.normalised(self.counter(x, training=training), training=training)


def nested(x):
    inner = keras.Input((4,))
    inner = keras.Model(inner, layers.SpectralNormalization(layers.Dense(4))(Counter()(inner)))
    x = inner(Inner()(x))
    x = keras.Sequential([layers.Dense(3), Trained4(), layers.Dropout(0.0)])(x)
    return layers.Dense(2)(inner(x))  # the layers are used twice in a step


class Trained4(Trained):
    start = np.ones(3, "float32")

    def call(self, x, training=False):
        return ops.pad(super().call(x, training=training), ((0, 0), (0, 1)))

    def compute_output_shape(self, shape):
        return (shape[0], 4)


@pytest.mark.slow
def test_layers_in_models_in_models_end_as_in_stock():
    case = Case(nested, (X, Y))
    expected = stock(case)
    for setting in SETTINGS:
        wrong = differences(ours(case, setting), expected)
        assert not wrong, (setting, wrong)


@pytest.mark.slow
def test_a_layer_that_needs_static_lengths_is_right_in_micro_batches():
    case = Case(lambda x: layers.Dense(2)(layers.GroupNormalization(2)(x)), (X, Y))
    wrong = differences(ours(case, "two micro-batches"), stock(case))
    assert not wrong, wrong


class Subclass:
    """A model that assigns in its own `call`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)
        self.kept = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        self.kept.assign(self.kept + 1)
        return self.dense(x)


@pytest.mark.slow
def test_a_model_that_assigns_ends_as_in_stock():
    plain = type("Plain", (Subclass, keras.Model), {})
    distributed = type("Distributed", (Subclass, training.DistributedModel), {})
    case = Case(
        None,
        (X, Y),
        model=lambda cls: (plain if cls is keras.Model else distributed)(),
    )
    expected = stock(case)
    for setting in SETTINGS:
        wrong = differences(ours(case, setting), expected)
        assert not wrong, (setting, wrong)


@pytest.mark.slow
def test_a_compiled_step_keeps_state_too():
    for name, case in {"layers of Keras": KERAS, "written": WRITTEN}.items():
        expected = stock(case)
        for setting in ("one replica", "two replicas"):
            wrong = differences(ours(case, setting, jit_compile=True), expected, 5e-5)
            assert not wrong, (name, setting, wrong)


@pytest.mark.slow
def test_state_is_kept_in_calls_of_single_batches():
    case = with_layers(Counter, Trained)
    expected = None
    for strategy, cls in (
        ("default", keras.Model),
        ("default", training.DistributedModel),
        ("mirrored", training.DistributedModel),
    ):
        model = compiled(case, made(case, cls, strategy), strategy)
        logs = [model.train_on_batch(X[:4], Y[:4]), model.test_on_batch(X, Y)]
        got = [*logs, model.predict_on_batch(X), *model.get_weights()]
        got = [np.asarray(value) for value in got]
        expected = expected or got
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)


def test_the_refusals_of_state_are_made_with_several_pieces_only():
    case = with_layers(Queue)
    assert not differences(ours(case, "one replica"), stock(case))
    for setting in ("two replicas", "two micro-batches"):
        with pytest.raises(Refused, match=r"kept|queue"):
            ours(case, setting)
