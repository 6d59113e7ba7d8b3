"""All of keras.metrics, and metrics that users write: right or refused, against stock Keras."""

import functools
import inspect

import keras
import numpy as np
import pytest
from keras import layers, metrics, ops
from right_or_refused import (
    ROWS,
    SETTINGS,
    Case,
    assert_right,
    assert_right_or_refused,
    differences,
    ours,
    stock,
)

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 5)).astype("float32")
REAL = RANDOM.normal(size=(ROWS, 2)).astype("float32")
LABELS = np.arange(ROWS) * 2 % 3
W = RANDOM.uniform(0, 2, ROWS).astype("float32")
TARGETS = {
    "real": REAL,
    "positive": np.abs(REAL) + 1,
    "binary": (RANDOM.uniform(size=(ROWS, 1)) > 0.5).astype("float32"),
    "labels": LABELS,
    "one_hot": np.eye(3, dtype="float32")[LABELS],
}
LOSSES = {
    "real": "mse",
    "positive": "mse",
    "binary": "binary_crossentropy",
    "labels": "sparse_categorical_crossentropy",
    "one_hot": "categorical_crossentropy",
}


def every_kind_of_output(x):
    return {
        "real": layers.Dense(2, name="real")(x),
        "positive": layers.Dense(2, activation="softplus", name="positive")(x),
        "binary": layers.Dense(1, activation="sigmoid", name="binary")(x),
        "labels": layers.Dense(3, activation="softmax", name="labels")(x),
        "one_hot": layers.Dense(3, activation="softmax", name="one_hot")(x),
    }


# The output that each metric measures, and the arguments of the metric.
METRICS = {
    "AUC": ("binary", {"num_thresholds": 20}),
    "Accuracy": ("real", {}),
    "BinaryAccuracy": ("binary", {}),
    "BinaryCrossentropy": ("binary", {}),
    "BinaryIoU": ("binary", {}),
    "CategoricalAccuracy": ("one_hot", {}),
    "CategoricalCrossentropy": ("one_hot", {}),
    "CategoricalHinge": ("one_hot", {}),
    "ConcordanceCorrelation": ("one_hot", {}),
    "CosineSimilarity": ("real", {}),
    "F1Score": ("one_hot", {}),
    "FBetaScore": ("one_hot", {"beta": 2.0, "average": "micro"}),
    "FalseNegatives": ("binary", {}),
    "FalsePositives": ("binary", {"thresholds": [0.4, 0.6]}),
    "Hinge": ("binary", {}),
    "IoU": ("labels", {"num_classes": 3, "target_class_ids": [0, 1], "sparse_y_pred": False}),
    "KLDivergence": ("one_hot", {}),
    "LogCoshError": ("real", {}),
    "MeanAbsoluteError": ("real", {}),
    "MeanAbsolutePercentageError": ("positive", {}),
    "MeanIoU": ("labels", {"num_classes": 3, "sparse_y_pred": False}),
    "MeanSquaredError": ("real", {}),
    "MeanSquaredLogarithmicError": ("positive", {}),
    "OneHotIoU": ("one_hot", {"num_classes": 3, "target_class_ids": [0]}),
    "OneHotMeanIoU": ("one_hot", {"num_classes": 3}),
    "PearsonCorrelation": ("one_hot", {}),
    "Poisson": ("positive", {}),
    "Precision": ("binary", {}),
    "PrecisionAtRecall": ("binary", {"recall": 0.5, "num_thresholds": 20}),
    "R2Score": ("real", {}),
    "Recall": ("one_hot", {"top_k": 2, "class_id": 1}),
    "RecallAtPrecision": ("binary", {"precision": 0.5, "num_thresholds": 20}),
    "RootMeanSquaredError": ("real", {}),
    "SensitivityAtSpecificity": ("binary", {"specificity": 0.5, "num_thresholds": 20}),
    "SparseCategoricalAccuracy": ("labels", {}),
    "SparseCategoricalCrossentropy": ("labels", {}),
    "SparseTopKCategoricalAccuracy": ("labels", {"k": 2}),
    "SpecificityAtSensitivity": ("binary", {"sensitivity": 0.5, "num_thresholds": 20}),
    "SquaredHinge": ("binary", {}),
    "TopKCategoricalAccuracy": ("one_hot", {"k": 2}),
    "TrueNegatives": ("binary", {}),
    "TruePositives": ("binary", {}),
}
# Metrics that need a function, or that `compile` does not accept.
OTHERS = {"Mean", "MeanMetricWrapper", "Metric", "Sum"}


def test_no_metric_of_keras_is_missing():
    classes = {name for name, value in vars(metrics).items() if inspect.isclass(value)}
    assert classes == {*METRICS, *OTHERS}


class Worst(metrics.Metric):
    """The greatest error."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.worst = self.add_weight(initializer="zeros", name="worst")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.worst.assign(ops.maximum(self.worst, ops.max(ops.abs(y_true - y_pred))))

    def result(self):
        return self.worst


class Least(Worst):
    """The least error, which cannot start from zero."""

    def __init__(self, **keywords):
        metrics.Metric.__init__(self, **keywords)
        self.worst = self.add_weight(initializer="ones", name="least")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.worst.assign(ops.minimum(self.worst, ops.min(ops.abs(y_true - y_pred))))

    def reset_state(self):
        self.worst.assign(ops.ones_like(self.worst))


class RootOfBatch(metrics.Mean):
    """The mean over the batches of the root of the mean square."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(ops.sqrt(ops.mean((y_true - y_pred) ** 2)))


class Latest(Worst):
    """The mean prediction of the latest batch."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.worst.assign(ops.mean(y_pred))


class Decayed(Worst):
    """An exponential moving average over the batches."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.worst.assign(0.5 * self.worst + 0.5 * ops.mean(ops.abs(y_true - y_pred)))


class Batches(Worst):
    """The number of batches, in integers."""

    def __init__(self, **keywords):
        metrics.Metric.__init__(self, **keywords)
        self.worst = self.add_weight(initializer="zeros", dtype="int32", name="batches")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.worst.assign(self.worst + 1)


class StateOfMean(Worst):
    """Keeps a mean in a metric of its own."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.mean = metrics.Mean()

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.mean.update_state(y_true - y_pred, sample_weight)

    def result(self):
        return self.mean.result()

    def reset_state(self):
        self.mean.reset_state()


class Several(Worst):
    """Returns a dictionary."""

    def result(self):
        return {"greatest": self.worst, "twice": 2 * self.worst}


class OfColumns(Worst):
    """Needs the number of columns before it has any values."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        columns = y_true.shape[1] * y_pred.shape[1]
        self.worst.assign(self.worst + columns * ops.mean(ops.abs(y_true - y_pred)))


def rows(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), -1)


def root_of_batch(y_true, y_pred):
    return ops.sqrt(ops.mean((y_true - y_pred) ** 2))


def total_of_batch(y_true, y_pred):
    return ops.sum(y_true - y_pred)


def greatest_of_batch(y_true, y_pred):
    return ops.max(y_true - y_pred)


def rank_in_batch(y_true, y_pred):
    """A value for each row that depends on all other rows."""
    return ops.cast(ops.argsort(ops.argsort(y_pred[:, 0])), "float32")


WRITTEN = {
    "greatest": lambda: Worst(name="greatest"),
    "least": lambda: Least(name="least"),
    "root of the batch": lambda: RootOfBatch(name="root"),
    "latest": lambda: Latest(name="latest"),
    "decayed": lambda: Decayed(name="decayed"),
    "batches": lambda: Batches(name="batches"),
    "of columns": lambda: OfColumns(name="columns"),
    "a metric in a metric": lambda: StateOfMean(name="inner"),
    "a dictionary": lambda: Several(name="several"),
    "a wrapped function": lambda: metrics.MeanMetricWrapper(rows, name="wrapped"),
    "a wrapped root": lambda: metrics.MeanMetricWrapper(root_of_batch, name="wrapped_root"),
    "a function": lambda: rows,
    "a function, root": lambda: root_of_batch,
    "a function, sum": lambda: total_of_batch,
    "a function, greatest": lambda: greatest_of_batch,
    "a function, rank": lambda: rank_in_batch,
    "a correlation over rows": lambda: metrics.PearsonCorrelation(axis=0, name="correlation"),
    "a string": lambda: "mae",
    "accuracy": lambda: "accuracy",
}


def of_keras(weighted, **compiling):
    def made():
        kinds = {output: [] for output in TARGETS}
        for name, (output, arguments) in METRICS.items():
            kinds[output].append(getattr(metrics, name)(**arguments, name=name))
        return {
            "loss": LOSSES,
            "weighted_metrics" if weighted else "metrics": kinds,
            **compiling,
        }

    data = (X, TARGETS, W) if weighted else (X, TARGETS)
    return Case(every_kind_of_output, data, compiling=made)


def without_losses_of_outputs(results):
    """Drops the losses of single outputs, in which stock Keras ignores the sizes of batches."""
    return {k: v for k, v in results.items() if k.split(": ")[-1] not in OF_OUTPUTS}


OF_OUTPUTS = {f"{output}_loss" for output in TARGETS}


def assert_same(got, expected):
    got, expected = map(without_losses_of_outputs, (got, expected))
    wrong = differences(got, expected)
    assert not wrong, wrong


@functools.cache
def stock_of_keras(weighted):
    return without_losses_of_outputs(stock(of_keras(weighted)))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_every_metric_of_keras_is_that_of_the_global_batch(weighted, setting):
    got = without_losses_of_outputs(ours(of_keras(weighted), setting))
    wrong = differences(got, stock_of_keras(weighted))
    assert not wrong, wrong


def written(weighted, names=WRITTEN):
    return Case(
        lambda x: layers.Dense(2)(x),
        (X, REAL, W) if weighted else (X, REAL),
        compiling=lambda: {
            "weighted_metrics" if weighted else "metrics": [WRITTEN[name]() for name in names]
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_every_written_metric_is_that_of_the_global_batch(weighted, setting):
    names = [name for name in WRITTEN if name not in UNWEIGHTED] if weighted else WRITTEN
    assert_right(written(weighted, names), setting, stock(written(weighted, names)))


UNWEIGHTED = {
    "a correlation over rows",
    "a wrapped root",
    "a function, root",
    "a function, sum",
    "a function, greatest",
}


ALONG_ROWS = {
    "PearsonCorrelation": metrics.PearsonCorrelation,
    "ConcordanceCorrelation": metrics.ConcordanceCorrelation,
    "CosineSimilarity": metrics.CosineSimilarity,
}


@pytest.mark.parametrize("axis", [0, pytest.param(-2, marks=pytest.mark.slow)])
def test_a_metric_of_keras_along_the_rows_is_that_of_the_global_batch(axis):
    case = Case(
        lambda x: layers.Dense(2)(x),
        (X[:7], REAL[:7]),  # whose last batch leaves one row for each replica
        compiling=lambda: {"metrics": [make(axis=axis) for make in ALONG_ROWS.values()]},
    )
    case.batch_size = 5
    expected = stock(case)
    assert all(np.isfinite(value).all() for value in expected.values())
    for setting in SETTINGS:
        assert_right(case, setting, expected)


def test_metrics_of_predictions_without_an_axis_are_those_of_the_global_batch():
    """Keras counts each batch once for them, however many rows it has."""
    case = Case(
        lambda x: layers.Reshape(())(layers.Dense(1)(x)),
        (X, REAL[:, 0]),
        compiling=lambda: {"metrics": ["mse", "mae"]},
    )
    expected = stock(case)
    for setting in SETTINGS:
        assert_right(case, setting, expected)


MASKED = RANDOM.normal(size=(ROWS, 4, 3)).astype("float32")
MASKED[2:5, 1:] = 0
OTHER_MODELS = {
    "of a mask": Case(
        lambda x: layers.Dense(2)(layers.Masking()(x)),
        (MASKED, MASKED[..., :2]),
        compiling=lambda: {"metrics": ["mae", Worst()], "weighted_metrics": ["mse"]},
    ),
    "of integers": Case(
        lambda x: layers.Dense(3)(x),
        (X, LABELS),
        compiling=lambda: {
            "loss": keras.losses.SparseCategoricalCrossentropy(True),
            "metrics": ["accuracy"],
        },
    ),
    "none": Case(lambda x: layers.Dense(2)(x), (X, REAL)),
    "with a dropout": Case(
        lambda x: layers.Dense(2)(layers.Dropout(0.0)(x)),
        (X, REAL),
        compiling=lambda: {"metrics": [Worst()]},
    ),
    "of structured outputs": Case(
        lambda x: [layers.Dense(2, name="a")(x), layers.Dense(2, name="b")(x)],
        (X, [REAL, REAL]),
        compiling=lambda: {"loss": ["mse", "mae"], "metrics": [["mae"], [Worst()]]},
        batch_size=ROWS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_MODELS)
def test_metrics(name):
    expected = stock(OTHER_MODELS[name])
    for setting in SETTINGS:
        assert_right_or_refused(OTHER_MODELS[name], setting, expected)


def test_the_greatest_error_is_numpys():
    case = written(False, ["greatest", "root of the batch"])
    for setting in SETTINGS:
        got = ours(case, setting)
        error = np.abs(got["prediction 0"] - REAL)
        assert got["evaluate: greatest"] == pytest.approx(error.max(), rel=1e-5), setting
        roots = [np.sqrt((error[i : i + 4] ** 2).mean()) for i in (0, 4, 8)]
        assert got["evaluate: root"] == pytest.approx(np.mean(roots), rel=1e-5), setting


class Layered(layers.Layer):
    """Updates its metric in `call`."""

    def __init__(self):
        super().__init__()
        self.mean = metrics.Mean(name="layered")

    def call(self, x):
        self.mean.update_state(ops.mean(x, -1))
        return x


@pytest.mark.slow
def test_a_metric_of_a_layer_is_right_or_refused():
    case = Case(
        lambda x: layers.Dense(2)(Layered()(x)),
        (X, REAL),
        state=lambda model: model.layers[1].mean.variables,
    )
    expected = stock(case)
    for setting in SETTINGS:
        assert_right_or_refused(case, setting, expected)
