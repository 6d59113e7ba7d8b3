"""All of keras.losses, and losses that users write: right or refused, against stock Keras."""

import contextlib
import functools
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses, ops
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
X = RANDOM.normal(size=(ROWS, 5)).astype("float32")
REAL = RANDOM.normal(size=(ROWS, 4)).astype("float32")
BINARY = (RANDOM.uniform(size=(ROWS, 4)) > 0.5).astype("float32")
LABELS = RANDOM.integers(0, 4, ROWS)
ONE_HOT = np.eye(4, dtype="float32")[LABELS]
TEXTS = RANDOM.integers(1, 4, (ROWS, 2))
W = RANDOM.uniform(0, 2, ROWS).astype("float32")
REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight")


def at_least_zero(name, x):
    return layers.Dense(4, activation="softplus", name=name)(x)


def real(name, x):
    return layers.Dense(4, name=name)(x)


def probability(name, x):
    return layers.Dense(4, activation="sigmoid", name=name)(x)


def distribution(name, x):
    return layers.Dense(4, activation="softmax", name=name)(x)


def characters(name, x):
    return layers.Reshape((5, 4), name=name)(layers.Dense(20, name=f"{name}_dense")(x))


def unit_vector(name, x):
    return layers.UnitNormalization(name=name)(layers.Dense(4, name=f"{name}_dense")(x))


# The layer and the targets for each loss, whose value is the mean or the sum over the rows.
OF_ROWS = {
    "BinaryCrossentropy": (probability, BINARY),
    "BinaryFocalCrossentropy": (probability, BINARY),
    "CTC": (characters, TEXTS),
    "CategoricalCrossentropy": (distribution, ONE_HOT),
    "CategoricalFocalCrossentropy": (distribution, ONE_HOT),
    "CategoricalGeneralizedCrossEntropy": (distribution, LABELS),
    "CategoricalHinge": (real, ONE_HOT),
    "CosineSimilarity": (real, REAL),
    "Hinge": (real, BINARY),
    "Huber": (real, REAL),
    "KLDivergence": (distribution, ONE_HOT),
    "LogCosh": (real, REAL),
    "MeanAbsoluteError": (real, REAL),
    "MeanAbsolutePercentageError": (real, np.abs(REAL) + 1),
    "MeanSquaredError": (real, REAL),
    "MeanSquaredLogarithmicError": (at_least_zero, np.abs(REAL)),
    "Poisson": (at_least_zero, BINARY),
    "SparseCategoricalCrossentropy": (distribution, LABELS),
    "SquaredHinge": (real, BINARY),
}
# Losses of pairs of rows, or ratios of sums over the rows.
MIXING_ROWS = {
    "Circle": (unit_vector, LABELS),
    "Dice": (probability, BINARY),
    "Tversky": (probability, BINARY),
}
ABSTRACT = {"Loss"}


def test_no_loss_of_keras_is_missing():
    classes = {name for name, value in vars(losses).items() if inspect.isclass(value)}
    assert classes == {*OF_ROWS, *MIXING_ROWS, *ABSTRACT}


def all_of_rows(reduction, *weights):
    """One model with an output for each loss, trained on a single batch.

    With several batches, stock Keras would average the losses of single outputs over batches of
    different sizes with equal weights.
    """
    names = {name: name.lower() for name in OF_ROWS}
    return Case(
        network=lambda x: {names[name]: OF_ROWS[name][0](names[name], x) for name in OF_ROWS},
        data=(X, {names[name]: OF_ROWS[name][1] for name in OF_ROWS}, *weights),
        compiling=lambda: {
            "loss": {names[n]: getattr(losses, n)(reduction=reduction) for n in OF_ROWS},
            "optimizer": keras.optimizers.SGD(0.01),
        },
        batch_size=ROWS,
        uses=("fit", "evaluate") if weights else ("fit",),
    )


@functools.cache
def stock_of_rows(reduction, weighted):
    return stock(all_of_rows(reduction, *[W] * weighted))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_loss_of_keras_is_that_of_the_global_batch(reduction, weighted, setting):
    case = all_of_rows(reduction, *[W] * weighted)
    assert_right(case, setting, stock_of_rows(reduction, weighted))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_loss_that_is_not_reduced_is_right_or_refused(weighted):
    """Stock Keras minimises the sum over the rows and reports their mean."""
    case = Case(
        lambda x: real("a", x),
        (X, REAL, W) if weighted else (X, REAL),
        compiling=lambda: {"loss": losses.MeanSquaredError(reduction="none")},
    )
    expected = stock(case)
    for setting in SETTINGS:
        with contextlib.suppress(Refused):
            assert_right(case, setting, expected)


MIXING = {
    **{(name, reduction): {} for name in MIXING_ROWS for reduction in ("mean", "sum")},
    ("Dice", "mean", "of each row"): {"axis": (1,)},
    ("Tversky", "mean", "of each row"): {"axis": (1,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXING, ids=" ".join)
def test_losses_that_mix_rows_are_right_or_refused(name):
    layer, targets = MIXING_ROWS[name[0]]
    case = Case(
        lambda x: layer("out", x),
        (X[:8], targets[:8]),
        compiling=lambda: {"loss": getattr(losses, name[0])(reduction=name[1], **MIXING[name])},
    )
    expected = stock(case)
    for setting in SETTINGS:
        assert_right_or_refused(case, setting, expected)


# Divisors other than the number of rows.

IMAGES = RANDOM.normal(size=(ROWS, 3, 3, 2)).astype("float32")
CLASSES = RANDOM.integers(0, 3, (ROWS, 3, 3))
CLASSES[np.arange(ROWS) % 4 > 1, :, 1:] = 255  # void, most of it in one half of each batch
CLASSES[8:] = 255  # all of the last batch
SEQUENCES = RANDOM.normal(size=(ROWS, 4, 3)).astype("float32")
SEQUENCES[2:6, 1:] = 0  # masked
SEQUENCES[7] = 0
OF_STEPS = RANDOM.uniform(0, 2, (ROWS, 4)).astype(
    "float32"
)  # as stock Keras does not broadcast rows


def pixels(x):
    return layers.Dense(3)(x)


def ignoring(reduction="sum_over_batch_size"):
    return losses.SparseCategoricalCrossentropy(True, ignore_class=255, reduction=reduction)


def masked(x):
    return layers.Dense(2)(layers.Masking()(x))


def masked_two_outputs(x):
    x = layers.Masking()(x)
    return {"a": layers.Dense(2, name="a")(x), "b": layers.LSTM(2, name="b")(x)}


DIVISORS = {
    "ignore_class": Case(pixels, (IMAGES, CLASSES), compiling=lambda: {"loss": ignoring()}),
    "ignore_class, a sum": Case(
        pixels,
        (IMAGES, CLASSES),
        compiling=lambda: {"loss": ignoring("sum"), "optimizer": keras.optimizers.SGD(0.01)},
    ),
    "ignore_class, sample weights": Case(
        pixels, (IMAGES, CLASSES, W[:, None, None]), compiling=lambda: {"loss": ignoring()}
    ),
    "ignore_class, a mean over weights": Case(
        pixels,
        (IMAGES, CLASSES, W[:, None, None]),
        compiling=lambda: {"loss": ignoring("mean_with_sample_weight")},
    ),
    "ignore_class, weights of pixels": Case(
        pixels,
        (IMAGES, CLASSES, RANDOM.uniform(size=CLASSES.shape).astype("float32")),
        compiling=lambda: {"loss": ignoring()},
    ),
    "ignore_class, a metric": Case(
        pixels,
        (IMAGES, CLASSES),
        compiling=lambda: {"loss": ignoring(), "metrics": [ignore_class_iou()]},
    ),
    "class weights": Case(
        lambda x: layers.Dense(4)(x),
        (X, LABELS),
        compiling=lambda: {"loss": losses.SparseCategoricalCrossentropy(True)},
        fitting={"class_weight": {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}},
    ),
    "loss weights": Case(
        lambda x: {"a": real("a", x), "b": real("b", x)},
        (X, {"a": REAL, "b": REAL}),
        compiling=lambda: {
            "loss": {"a": "mse", "b": "mae"},
            "loss_weights": {"a": 0.2, "b": 3.0},
        },
        batch_size=ROWS,
    ),
    "weights of two outputs": Case(
        lambda x: {"a": real("a", x), "b": real("b", x)},
        (X, {"a": REAL, "b": REAL}, {"a": W, "b": W[::-1].copy()}),
        compiling=lambda: {
            "loss": {
                "a": losses.MeanSquaredError("mean_with_sample_weight"),
                "b": losses.MeanAbsoluteError("mean_with_sample_weight"),
            }
        },
        batch_size=ROWS,
    ),
    "all weights zero in one half": Case(
        lambda x: real("a", x),
        (X, REAL, np.where(np.arange(ROWS) % 4 < 2, 0, W).astype("float32")),
        compiling=lambda: {"loss": losses.MeanSquaredError("mean_with_sample_weight")},
    ),
    "weights of steps": Case(
        lambda x: layers.Dense(2)(x),
        (SEQUENCES, SEQUENCES[..., :2], RANDOM.uniform(size=(ROWS, 4)).astype("float32")),
    ),
}
MASKS = {
    "a mask": Case(masked, (SEQUENCES, SEQUENCES[..., :2] + 1)),
    "a mask, a sum": Case(
        masked,
        (SEQUENCES, SEQUENCES[..., :2] + 1),
        compiling=lambda: {
            "loss": losses.MeanSquaredError("sum"),
            "optimizer": keras.optimizers.SGD(0.01),
        },
    ),
    "a mask, sample weights": Case(masked, (SEQUENCES, SEQUENCES[..., :2] + 1, OF_STEPS)),
    "a mask, a mean over weights": Case(
        masked,
        (SEQUENCES, SEQUENCES[..., :2] + 1, OF_STEPS),
        compiling=lambda: {"loss": losses.MeanSquaredError("mean_with_sample_weight")},
    ),
    "a mask of one of two outputs": Case(
        masked_two_outputs,
        (SEQUENCES, {"a": SEQUENCES[..., :2] + 1, "b": SEQUENCES[:, 0, :2]}),
        compiling=lambda: {"loss": {"a": "mse", "b": "mse"}},
        batch_size=ROWS,
    ),
    "a mask and metrics": Case(
        masked,
        (SEQUENCES, SEQUENCES[..., :2] + 1),
        compiling=lambda: {"metrics": ["mae"], "weighted_metrics": ["mse"]},
    ),
    "the mask of an Embedding": Case(
        lambda x: layers.Dense(2)(layers.Embedding(4, 3, mask_zero=True)(x)),
        (
            np.where(np.arange(5) < LABELS[:, None] + 1, 3, 0),
            RANDOM.normal(size=(ROWS, 5, 2)).astype("float32"),
        ),
    ),
}


def ignore_class_iou():
    return keras.metrics.MeanIoU(3, ignore_class=255, sparse_y_pred=False, name="iou")


@pytest.mark.parametrize("setting", slow_but(SETTINGS, "two replicas"))
@pytest.mark.parametrize("name", slow_but(DIVISORS, "ignore_class"))
def test_a_divisor_is_that_of_the_global_batch(name, setting):
    assert_right(DIVISORS[name], setting, expected_divisor(name))


@functools.cache
def expected_divisor(name):
    return stock(DIVISORS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_counts_the_valid_entries_of_the_global_batch(name):
    expected = stock(MASKS[name])
    for setting in SETTINGS:
        assert_right(MASKS[name], setting, expected)


@pytest.mark.slow
def test_ignore_class_is_a_mean_over_the_valid_pixels():
    """NumPy in float64 is the oracle."""
    case = DIVISORS["ignore_class"]
    for setting, cls in (("stock", keras.Model), *((s, None) for s in SETTINGS)):
        strategy, parts = SETTINGS.get(setting, ("default", 1))
        keywords = {} if cls else {"micro_batches": parts}
        model = made(case, cls or training.DistributedModel, strategy)
        compiled(case, model, strategy, **keywords)
        logits = model.predict(IMAGES, verbose=0).astype("float64")
        valid = CLASSES != 255
        picked = np.take_along_axis(logits, np.where(valid, CLASSES, 0)[..., None], -1)[..., 0]
        expected = (np.log(np.exp(logits).sum(-1)) - picked)[valid].mean()
        got = model.fit(IMAGES, CLASSES, batch_size=ROWS, verbose=0).history["loss"][0]
        assert got == pytest.approx(expected, rel=1e-5), setting


# Losses that users write.


def squares(y, p):
    return ops.mean((y - p) ** 2, -1)


def mean(y, p):
    return ops.mean((y - p) ** 2)


def total(y, p):
    return ops.sum((y - p) ** 2)


def root(y, p):
    return ops.sqrt(ops.mean((y - p) ** 2))


def dice(y, p):
    y, p = ops.sigmoid(y), ops.sigmoid(p)
    return 1 - 2 * ops.sum(y * p) / (ops.sum(y) + ops.sum(p))


def contrastive(y, p):
    z = ops.normalize(p)
    return ops.mean(ops.logsumexp(ops.matmul(z, ops.transpose(z)), 1))


def contrastive_rows(y, p):
    """A value for each row that depends on all other rows."""
    z = ops.normalize(p)
    return ops.logsumexp(ops.matmul(z, ops.transpose(z)), 1)


def centred(y, p):
    return ops.mean((p - ops.mean(p, 0)) ** 2 + (y - p) ** 2, -1)


def hardest(y, p):
    """Online hard-example mining: the loss of the worst row."""
    return ops.mean(ops.top_k(ops.mean((y - p) ** 2, -1), 1)[0])


def maximum(y, p):
    return ops.max(ops.abs(y - p))


def covariance(y, p):
    """Barlow twins: a matrix over the features that is computed from the whole batch."""
    z = (p - ops.mean(p, 0)) / (ops.std(p, 0) + 0.1)
    c = ops.matmul(ops.transpose(z), z) / ops.cast(ops.shape(z)[0], "float32")
    return ops.mean((c - ops.eye(4)) ** 2)


def focal_by_positives(y, p):
    """RetinaNet: a sum divided by the number of positives in the batch."""
    return ops.sum((y - p) ** 2) / (ops.sum(ops.cast(y > 0, "float32")) + 1)


def by_greatest_label(y, p):
    return ops.mean((y - p) ** 2, -1) / ops.max(ops.abs(y))


def flooding(y, p):
    return ops.abs(ops.mean((y - p) ** 2) - 0.5) + 0.5


def clipped(y, p):
    return ops.minimum(ops.mean((y - p) ** 2), 1.0)


def mean_over_valid(y, p):
    """Missing targets are marked by -1."""
    valid = ops.cast(y != -1, "float32")
    return ops.sum(valid * (y - p) ** 2) / ops.sum(valid)


def logarithmic(y, p):
    """Is not finite for some random labels."""
    return ops.mean((ops.log(y + 3.0) - p) ** 2)


def by_tensorflow(y, p):
    return tf.reduce_sum(tf.math.squared_difference(y, p)) / tf.cast(tf.shape(p)[0], tf.float32)


class Own(losses.Loss):
    """A subclass that reduces in `call`, which makes its `reduction` ineffective."""

    def call(self, y, p):
        return ops.sum((y - p) ** 2)


class OwnRows(losses.Loss):
    def call(self, y, p):
        return ops.mean((y - p) ** 2, -1)


class OwnCall(losses.Loss):
    """A subclass that overrides `__call__`, and with it the reduction."""

    def __call__(self, y, p, sample_weight=None):
        return ops.sum((y - p) ** 2)


MEANS = {
    "one number for each row": lambda: squares,
    "a mean": lambda: mean,
    "a mean of logarithms": lambda: logarithmic,
    "a sum divided by the rows": lambda: by_tensorflow,
    "a class, one number for each row": OwnRows,
    "a class, a sum of rows": lambda: OwnRows(reduction="sum"),
}
OTHERS = {
    "a sum": lambda: total,
    "a root": lambda: root,
    "Dice": lambda: dice,
    "contrastive": lambda: contrastive,
    "contrastive, by row": lambda: contrastive_rows,
    "centred by the batch": lambda: centred,
    "hard examples": lambda: hardest,
    "a maximum": lambda: maximum,
    "a mean over valid targets": lambda: mean_over_valid,
    "divided by the greatest label": lambda: by_greatest_label,
    "flooding": lambda: flooding,
    "a clipped mean": lambda: clipped,
    "Barlow twins": lambda: covariance,
    "divided by the positives": lambda: focal_by_positives,
    "a class that sums": Own,
    "a class that reduces itself": OwnCall,
}


def written(loss):
    """Returns a case with the loss that `loss` creates."""
    return Case(
        lambda x: layers.Dense(4)(x),
        (X, REAL),
        compiling=lambda: {"loss": loss(), "optimizer": keras.optimizers.SGD(0.01)},
        uses=("fit", "evaluate"),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MEANS)
def test_a_written_loss_that_is_a_mean_is_right(name):
    case = written(MEANS[name])
    expected = stock(case)
    for setting in SETTINGS:
        assert_right(case, setting, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_written_loss_that_is_no_mean_is_right_or_refused(name):
    case = written(OTHERS[name])
    expected = stock(case)
    for setting in SETTINGS:
        assert_right_or_refused(case, setting, expected)


OF_NO_AXIS = ("mse", "kl_divergence", "cosine_similarity", "binary_crossentropy", "poisson")
AXES = {
    "along the rows": (lambda: losses.CosineSimilarity(axis=0), (4,)),
    "along the rows, counted from the end": (lambda: losses.CosineSimilarity(axis=-2), (4,)),
    **{f"{name} of predictions without an axis": (lambda n=name: n, ()) for name in OF_NO_AXIS},
}


@pytest.mark.parametrize("name", slow_but(AXES, "along the rows"))
def test_a_loss_of_keras_that_mixes_rows_by_its_axis_is_right_or_refused(name):
    loss, shape = AXES[name]
    case = Case(
        lambda x: layers.Reshape(shape)(layers.Dense(4 if shape else 1, "sigmoid")(x)),
        (X, BINARY if shape else BINARY[:, 0]),
        compiling=lambda: {"loss": loss()},
        uses=("fit", "evaluate"),
    )
    expected = stock(case)
    for setting in SETTINGS:
        assert_right_or_refused(case, setting, expected)


class Noise(layers.Layer):
    """Multiplies by numbers near 1."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def call(self, x):
        return x * keras.random.uniform(ops.shape(x), 0.98, 1.02, seed=self.seed)


OF_NOISE = {
    "a mean": lambda x: ops.mean(x**2),
    "a sum": lambda x: ops.sum(x**2),
    "a mean of products": lambda x: ops.mean(x) ** 2,
    "a variance over the batch": lambda x: ops.mean(ops.var(x, 0)),
}


@pytest.mark.parametrize("name", slow_but(OF_NOISE, "a mean"))
def test_an_added_loss_of_random_numbers_is_a_mean_or_a_sum_or_refused(name):
    """As in a variational autoencoder that adds its reconstruction error."""
    case = Case(
        lambda x: Adds(OF_NOISE[name])(Noise()(layers.Dense(4)(x))),
        (X,),
        compiling=lambda: {"loss": None},
        uses=("evaluate",),
    )
    expected = stock(case)["evaluate: loss"]
    for setting in ("two replicas", "two micro-batches"):
        if name in ("a mean", "a sum"):
            np.testing.assert_allclose(ours(case, setting)["evaluate: loss"], expected, 0.02)
        elif setting == "two replicas":  # evaluation uses no micro-batches
            with pytest.raises(Refused, match="adds a loss that mixes the rows"):
                ours(case, setting)


class Adds(layers.Layer):
    """Adds a loss in `call`."""

    def __init__(self, penalty):
        super().__init__()
        self.penalty = penalty

    def call(self, x):
        self.add_loss(self.penalty(x))
        return x


class Divergence(layers.Layer):
    """A variational bottleneck without random numbers."""

    def call(self, inputs):
        mean, log_variance = inputs
        divergence = -0.5 * (1 + log_variance - mean**2 - ops.exp(log_variance))
        self.add_loss(0.1 * ops.mean(ops.sum(divergence, -1)))
        return mean


def adding(penalty):
    return Case(lambda x: layers.Dense(4)(Adds(penalty)(layers.Dense(3)(x))), (X, REAL))


def variational(x):
    return layers.Dense(4)(Divergence()([layers.Dense(2)(x), layers.Dense(2)(x)]))


ADDED_MEANS = {
    "a mean": adding(lambda x: 0.1 * ops.mean(x**2)),
    "a divergence": Case(variational, (X, REAL)),
    "nothing of the batch": adding(lambda x: ops.zeros(()) + 0.5),
    "an activity regulariser": Case(
        lambda x: layers.Dense(4)(layers.Dense(3, activity_regularizer="l2")(x)), (X, REAL)
    ),
    "an ActivityRegularization": Case(
        lambda x: layers.Dense(4)(layers.ActivityRegularization(0.1, 0.1)(x)), (X, REAL)
    ),
    "regularisers of weights": Case(
        lambda x: layers.Dense(
            4,
            kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1),
            bias_regularizer="l1",
        )(layers.Dense(4, kernel_regularizer=keras.regularizers.OrthogonalRegularizer())(x)),
        (X, REAL),
    ),
    "no loss but the added": Case(
        lambda x: Adds(lambda x: ops.mean(x**2))(layers.Dense(3)(x)),
        (X,),
        compiling=lambda: {"loss": None},
    ),
}
ADDED_OTHERS = {
    "a sum": adding(lambda x: 0.01 * ops.sum(x**2)),
    "one number for each row": adding(lambda x: 0.1 * ops.mean(x**2, -1)),
    "a variance over the batch": adding(lambda x: 0.1 * ops.mean(ops.var(x, 0))),
    "a sum, no other loss": Case(
        lambda x: Adds(lambda x: 0.01 * ops.sum(x**2))(layers.Dense(3)(x)),
        (X,),
        compiling=lambda: {"loss": None},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDED_MEANS)
def test_what_a_layer_adds_as_a_mean_is_right(name):
    expected = stock(ADDED_MEANS[name])
    for setting in SETTINGS:
        assert_right(ADDED_MEANS[name], setting, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDED_OTHERS)
def test_what_a_layer_adds_otherwise_is_right_or_refused(name):
    try:
        expected = stock(ADDED_OTHERS[name])
    except (ValueError, TypeError, tf.errors.OpError):  # stock Keras refuses vectors
        with pytest.raises((ValueError, TypeError, tf.errors.OpError, Refused)):
            ours(ADDED_OTHERS[name], "one replica")
        return
    for setting in SETTINGS:
        assert_right_or_refused(ADDED_OTHERS[name], setting, expected)


class Weighting(losses.Loss):
    """Divides by a moving mean of its own values, which it keeps in a variable."""

    def __init__(self):
        super().__init__()
        self.scale = keras.Variable(1.0, trainable=False)

    def call(self, y, p):
        values = ops.mean((y - p) ** 2, -1)
        self.scale.assign(0.5 * self.scale + 0.5 * ops.stop_gradient(ops.mean(values)))
        return values / ops.stop_gradient(self.scale)


@pytest.mark.slow
def test_a_loss_with_a_state_is_right_or_refused():
    case = written(Weighting)
    case.state = lambda model: [model.loss.scale] if model.compiled else []
    expected = stock(case)
    for setting in SETTINGS:  # the scale depends on the rows of the piece
        with contextlib.suppress(Refused):
            assert_right(case, setting, expected)


def test_the_refusals_of_losses_are_made_with_several_pieces_only():
    for name in ("contrastive", "Dice"):
        case = written(OTHERS[name])
        if name == "Dice":
            assert not differences(ours(case, "one replica"), stock(case))
        for setting in SEVERAL_PIECES:
            with pytest.raises(Refused, match="loss"):
                ours(case, setting)
