"""Fisher information and natural gradients of the units of a dense layer."""

import dataclasses

import keras
import numpy as np

from keras_elu.diagnostics import double


@dataclasses.dataclass(frozen=True)
class FisherBlocks:
    """The Fisher information of the incoming weights and the bias of each unit of a dense layer.

    For a unit with the incoming activations `a`, and with `delta` for the derivative of the log-
    likelihood by the unit's net input, the matrix is `[[A, b], [b', c]]`. A unit weighs examples by
    `q = delta**2 / E(delta**2)`.

    Args:
        A: `E(delta**2) E_q(a a')`, of shape `(units, inputs, inputs)`.
        b: `E(delta**2) E_q(a)`, of shape `(units, inputs)`.
        c: `E(delta**2)`, of shape `(units,)`. 0 for a unit without influence on the output.
        mean: `E(a)`, of shape `(inputs,)`.

    The methods accept a `ridge`, for matrices that cannot be inverted: the multiple of the mean of
    the diagonal of `E_q(a a')` that is added to the diagonal. Their results are NaN for a unit
    without influence.

    Reference:
        [Clevert et al., 2016](https://arxiv.org/abs/1511.07289), section 2.
    """

    A: np.ndarray
    b: np.ndarray
    c: np.ndarray
    mean: np.ndarray

    @property
    def matrices(self) -> np.ndarray:
        """The complete matrices, of shape `(units, inputs + 1, inputs + 1)`, the bias last."""
        right = np.concatenate([self.b, self.c[:, None]], 1)[:, :, None]
        return np.concatenate([np.concatenate([self.A, self.b[:, None]], 1), right], 2)

    @property
    def weighted_mean(self) -> np.ndarray:
        """`E_q(a)`, the mean that causes the bias shift, of shape `(units, inputs)`."""
        return self.b / self._scale[:, None]

    def correction_factor(self, ridge: float = 0.0) -> np.ndarray:
        """Returns `k = 1 + (E_q(a) - E(a))' Var_q(a)^-1 E_q(a)`, of shape `(units,)`."""
        solved = self._solve(self.weighted_mean, ridge)
        return (1 - solved @ self.mean) / (1 - _dot(self.weighted_mean, solved))

    def corrected_mean(self, ridge: float = 0.0) -> np.ndarray:
        """Returns `E(a) - k E_q(a)`, of shape `(units, inputs)`.

        The natural gradient moves the mean net input of a unit as the plain gradient would if its
        incoming activations had this mean.
        """
        return self.mean - self.correction_factor(ridge)[:, None] * self.weighted_mean

    def natural_gradient(
        self, weights: np.ndarray, bias: np.ndarray, ridge: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the unit natural gradient: the gradient times the inverse of the unit's matrix.

        Args:
            weights: The gradient by the incoming weights, of shape `(units, inputs)`.
            bias: The gradient by the bias, of shape `(units,)`.
            ridge: See above.

        Returns:
            The natural gradient by the weights and by the bias, of the same shapes.
        """
        mean = self.weighted_mean
        of_mean, of_weights = self._solve(mean, ridge), self._solve(weights, ridge)
        # 1 + E_q' Var_q^-1 E_q = 1 / (1 - E_q' (E_q a a')^-1 E_q)
        bias = (bias - _dot(mean, of_weights)) / (self._scale * (1 - _dot(mean, of_mean)))
        return of_weights / self._scale[:, None] - bias[:, None] * of_mean, bias

    @property
    def _scale(self) -> np.ndarray:
        return np.where(self.c > 0, self.c, np.nan)

    def _solve(self, right: np.ndarray, ridge: float) -> np.ndarray:
        """Returns `E_q(a a')^-1` times a vector for each unit."""
        alive = self.c > 0
        moments = self.A[alive] / self.c[alive, None, None]
        diagonal = np.einsum("uii->ui", moments)  # a view
        diagonal += ridge * diagonal.mean(axis=1, keepdims=True)
        result = np.full(right.shape, np.nan)
        try:
            result[alive] = np.linalg.solve(moments, right[alive][:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            raise ValueError(
                "The Fisher matrix of a unit cannot be inverted: give a positive ridge, such as "
                "1e-3, or more examples."
            ) from None
        return result


def fisher_blocks(model: keras.Model, layer: str, x, *, seed: int = 0) -> FisherBlocks:
    """Returns the Fisher information of the units of a dense layer, by labels sampled from a model.

    Args:
        model: A functional model that returns logits of shape `(batch, classes)`.
        layer: Name of a `keras.layers.Dense` with inputs of shape `(batch, inputs)`.
        x: One batch of inputs.
        seed: Seed of the labels.

    Raises:
        ValueError: If the model or the layer is of another kind.

    Example:

    >>> model = keras_elu.models.mnist_mlp((4, 4, 1), classes=3)
    >>> blocks = fisher_blocks(model, "dense_2", np.random.rand(500, 4, 4, 1))
    >>> blocks.matrices.shape
    (128, 129, 129)
    """
    return empirical_fisher_blocks(model, layer, x, sample_labels(model, x, seed=seed))


def empirical_fisher_blocks(model: keras.Model, layer: str, x, labels) -> FisherBlocks:
    """Returns the empirical Fisher information, which takes the labels of the data instead.

    Args:
        model: As for `fisher_blocks`.
        layer: As for `fisher_blocks`.
        x: One batch of inputs.
        labels: Its labels, whole numbers of shape `(batch,)`.

    Raises:
        ValueError: If the model, the layer or the labels are of another kind.
    """
    incoming, delta = _signals(model, layer, x, labels)
    count, squares = len(incoming), np.square(delta)
    products = np.stack([(incoming.T * of_unit) @ incoming for of_unit in squares.T])
    return FisherBlocks(
        A=products / count,
        b=squares.T @ incoming / count,
        c=squares.mean(axis=0),
        mean=incoming.mean(axis=0),
    )


def dense_gradient(model: keras.Model, layer: str, x, labels) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gradient of the mean negative log-likelihood by the weights of a dense layer.

    Args:
        model: As for `fisher_blocks`.
        layer: As for `fisher_blocks`.
        x: One batch of inputs.
        labels: Its labels, whole numbers of shape `(batch,)`.

    Returns:
        The gradient by the incoming weights of each unit, `(units, inputs)`, and by its bias,
        `(units,)`.

    Raises:
        ValueError: If the model, the layer or the labels are of another kind.
    """
    incoming, delta = _signals(model, layer, x, labels)
    return -delta.T @ incoming / len(incoming), -delta.mean(axis=0)


def sample_labels(model: keras.Model, x, *, seed: int = 0) -> np.ndarray:
    """Returns a label for each example, drawn from the probabilities that the model gives.

    Args:
        model: A functional model that returns logits of shape `(batch, classes)`.
        x: One batch of inputs.
        seed: Seed of the draws. They are the same on every backend.
    """
    double.checked(model, np.zeros(0, int))
    with double.precision():
        logits = keras.ops.convert_to_numpy(double.copied(model)(x, training=False))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    limits = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    draws = np.random.default_rng(seed).random((len(limits), 1))
    return (draws >= limits).sum(axis=1)


class _Observed(keras.layers.Layer):
    """A dense layer that keeps its input, and to whose net input a tensor can be added."""

    def __init__(self, dense: keras.layers.Dense):
        super().__init__(dtype="float64", name=dense.name)
        self.activation, dense.activation = dense.activation, keras.activations.linear
        self.dense, self.incoming, self.shift = dense, None, None

    def call(self, x):
        self.incoming, net = x, self.dense(x)
        return self.activation(net if self.shift is None else net + self.shift)

    def compute_output_shape(self, input_shape):
        return self.dense.compute_output_shape(input_shape)


def _signals(model, layer, x, labels) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs of a dense layer, and the derivatives by its net inputs."""
    labels = double.checked(model, labels)
    dense = model.get_layer(layer)
    if not isinstance(dense, keras.layers.Dense) or len(dense.input.shape) != 2:
        raise ValueError(f"{layer} is not a Dense layer with inputs of shape (batch, inputs).")
    with double.precision():
        copy = double.copied(model, {layer: _Observed})
        observed = copy.get_layer(layer)

        def total(tensors):
            (observed.shift,) = tensors
            return keras.ops.sum(double.log_likelihood(copy(x, training=False), labels))

        (delta,) = double.gradients(total, [np.zeros((len(labels), dense.units))])
        observed.shift = None
        copy(x, training=False)
        return keras.ops.convert_to_numpy(observed.incoming), delta


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ui,ui->u", a, b)
