"""Means and medians of the units of a network, and how training moves them."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_elu.diagnostics import double, fisher, saturation


def unit_means(model: keras.Model, x) -> dict[str, np.ndarray]:
    """Returns the mean activation of each unit, by the name of its activation layer.

    Args:
        model: A functional model. Only layers that are an activation and nothing else are covered.
        x: One batch of inputs. A unit of a convolution is a channel, the last axis; its positions
            count as examples.

    Returns:
        An array of shape `(units,)` for each activation layer.

    Raises:
        ValueError: If convolutions have the channels first.

    Example:

    >>> inputs = keras.Input((2,))
    >>> model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inputs))
    >>> unit_means(model, np.array([[-3.0, 1.0], [5.0, 2.0]]))["relu"].tolist()
    [2.5, 1.5]
    """
    return {name: rows.mean(axis=0) for name, rows in outputs(model, x).items()}


def unit_medians(model: keras.Model, x) -> dict[str, np.ndarray]:
    """Returns the median activation of each unit over the examples, as `unit_means` does the mean.

    Args:
        model: As for `unit_means`.
        x: As for `unit_means`.
    """
    return {name: np.median(rows, axis=0) for name, rows in outputs(model, x).items()}


def variance_over_epochs(medians: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the variance over epochs of a number of each unit.

    Args:
        medians: The result of `unit_medians`, on the same examples, after each epoch.

    Example:

    >>> variance_over_epochs([{"elu": np.array([0.0])}, {"elu": np.array([2.0])}])["elu"].tolist()
    [1.0]
    """
    return {name: np.var([of[name] for of in medians], axis=0) for name in medians[0]}


@dataclasses.dataclass(frozen=True)
class Correction:
    """What the unit natural gradient of a dense layer corrects.

    Args:
        incoming_mean: Length of `E(a)`, the mean of the incoming activations.
        weighted_mean: Length of `E_q(a)` of each unit, of shape `(units,)`. The correction vanishes
            if it is 0.
        factor: The factor `k` of each unit, of shape `(units,)`.
        cosine: Cosine of the angle between the gradient and the natural gradient of each unit, of
            shape `(units,)`.
    """

    incoming_mean: float
    weighted_mean: np.ndarray
    factor: np.ndarray
    cosine: np.ndarray


def correction(
    model: keras.Model, layer: str, x, labels, *, ridge: float = 1e-3, seed: int = 0
) -> Correction:
    """Compares the gradient of the units of a dense layer with their natural gradient.

    Args:
        model: A functional model that returns logits of shape `(batch, classes)`.
        layer: Name of a `keras.layers.Dense` with inputs of shape `(batch, inputs)`.
        x: One batch of inputs.
        labels: Its labels, for the gradient; the Fisher information samples labels from the model.
        ridge: See `FisherBlocks`.
        seed: Seed of the sampled labels.

    Raises:
        ValueError: If the model, the layer or the labels are of another kind.
    """
    blocks = fisher.fisher_blocks(model, layer, x, seed=seed)
    plain = fisher.dense_gradient(model, layer, x, labels)
    a, b = (_joined(*of) for of in (plain, blocks.natural_gradient(*plain, ridge)))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return Correction(
        incoming_mean=float(np.linalg.norm(blocks.mean)),
        weighted_mean=np.linalg.norm(blocks.weighted_mean, axis=1),
        factor=blocks.correction_factor(ridge),
        cosine=np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, np.nan),
    )


def bias_shift(model: keras.Model, x, labels, learning_rate: float) -> dict[str, np.ndarray]:
    """Returns by how much one step of gradient descent changes the mean activation of each unit.

    The step descends the mean negative log-likelihood of the batch, without regularization. The
    model does not change.

    Args:
        model: A functional model that returns logits of shape `(batch, classes)`.
        x: One batch of inputs.
        labels: Its labels, whole numbers of shape `(batch,)`.
        learning_rate: Learning rate of the step.

    Returns:
        An array of shape `(units,)` for each activation layer.

    Raises:
        ValueError: If the model or the labels are of another kind.
    """
    labels = double.checked(model, labels)
    with double.precision():
        copy = double.copied(model)
        before = unit_means(copy, x)
        values = [keras.ops.convert_to_numpy(weight) for weight in copy.trainable_variables]
        fixed = [variable.value for variable in copy.non_trainable_variables]

        def loss(tensors):
            logits, _ = copy.stateless_call(tensors, fixed, x, training=False)
            return -keras.ops.mean(double.log_likelihood(logits, labels))

        for weight, value, gradient in zip(
            copy.trainable_variables, values, double.gradients(loss, values), strict=True
        ):
            weight.assign(value - learning_rate * gradient)
        after = unit_means(copy, x)
    return {name: after[name] - before[name] for name in after}


def outputs(model, x) -> dict[str, np.ndarray]:
    """Returns the outputs of each activation layer, of shape `(examples, units)`.

    Raises:
        ValueError: If the channels of an activation layer need not be its last axis.
    """
    spatial = [layer for layer in saturation.activations(model) if len(layer.output.shape) > 2]
    for layer in _layers(model) if spatial else ():
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"The channels of {spatial[0].name!r} need not be its last axis, because "
                f"{layer.name!r} has them first: build the model with "
                'data_format="channels_last".'
            )
    with double.precision():
        copy = double.copied(model)
        _, seen = saturation.observer(copy)(x, training=False)
        found = [keras.ops.convert_to_numpy(output) for _, output in seen]
    names = [layer.name for layer in saturation.activations(copy)]
    return {n: y.reshape(-1, y.shape[-1]) for n, y in zip(names, found, strict=True)}


def _layers(model):
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]


def _joined(weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([weights, bias[:, None]], axis=1)
