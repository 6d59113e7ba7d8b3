"""Fisher blocks and natural gradients, against per-example gradients and the paper's identities."""

import keras
import numpy as np
import oracle
import pytest

from keras_elu import diagnostics

EXACT = {"rtol": 1e-8, "atol": 1e-10}


def direct(model, x, labels):
    """The Fisher matrix of each unit of the second layer, and the gradient of the loss."""
    held = oracle.weights(model)
    by_kernel, by_bias = (oracle.example_gradients(held, x, labels, i) for i in (2, 3))
    each = np.concatenate([by_kernel, by_bias[:, None]], axis=1)  # (batch, inputs + 1, units)
    matrices = np.einsum("niu,nju->uij", each, each) / len(x)
    return matrices, -each.mean(axis=0).T


def test_empirical_blocks_are_the_matrix_of_per_example_gradients():
    model, x, labels = oracle.network()
    matrices, _ = direct(model, x, labels)
    blocks = diagnostics.empirical_fisher_blocks(model, "second", x, labels)
    np.testing.assert_allclose(blocks.matrices, matrices, **EXACT)


def test_fisher_blocks_take_labels_sampled_from_the_model():
    model, x, labels = oracle.network()
    drawn = diagnostics.sample_labels(model, x, seed=3)
    assert (drawn != labels).any()
    matrices, _ = direct(model, x, drawn)
    blocks = diagnostics.fisher_blocks(model, "second", x, seed=3)
    np.testing.assert_allclose(blocks.matrices, matrices, **EXACT)


def test_labels_are_drawn_with_the_probabilities_of_the_model():
    model, x, _ = oracle.network()
    logits = oracle.forward(oracle.weights(model), x[:1])[2].real[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    drawn = diagnostics.sample_labels(model, np.repeat(x[:1], 20_000, axis=0), seed=1)
    found = np.bincount(drawn, minlength=3) / len(drawn)
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / len(drawn))
    again = diagnostics.sample_labels(model, np.repeat(x[:1], 20_000, axis=0), seed=1)
    np.testing.assert_array_equal(again, drawn)


def test_the_gradient_of_a_dense_layer_is_that_of_the_loss():
    model, x, labels = oracle.network()
    _, expected = direct(model, x, labels)
    by_kernel, by_bias = diagnostics.dense_gradient(model, "second", x, labels)
    np.testing.assert_allclose(by_kernel, expected[:, :-1], **EXACT)
    np.testing.assert_allclose(by_bias, expected[:, -1], **EXACT)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_natural_gradient_solves_the_whole_matrix(ridge):
    model, x, labels = oracle.network()
    matrices, gradient = direct(model, x, labels)
    inputs = matrices.shape[1] - 1
    for matrix in matrices:  # the ridge is on the second moments of the inputs, not on the bias
        mean_square = np.trace(matrix[:-1, :-1]) / inputs
        matrix[:-1, :-1] += ridge * mean_square * np.eye(inputs)
    expected = np.stack([np.linalg.solve(m, g) for m, g in zip(matrices, gradient, strict=True)])
    blocks = diagnostics.empirical_fisher_blocks(model, "second", x, labels)
    by_kernel, by_bias = blocks.natural_gradient(gradient[:, :-1], gradient[:, -1], ridge)
    np.testing.assert_allclose(by_kernel, expected[:, :-1], **EXACT)
    np.testing.assert_allclose(by_bias, expected[:, -1], **EXACT)


def test_the_correction_is_that_of_the_paper():
    model, x, labels = oracle.network()
    matrices, gradient = direct(model, x, labels)
    mean = oracle.forward(oracle.weights(model), x)[0].real.mean(axis=0)
    blocks = diagnostics.empirical_fisher_blocks(model, "second", x, labels)
    np.testing.assert_allclose(blocks.mean, mean, **EXACT)
    factors, corrected = blocks.correction_factor(), blocks.corrected_mean()
    by_kernel, by_bias = blocks.natural_gradient(gradient[:, :-1], gradient[:, -1])
    for unit, matrix in enumerate(matrices):
        c = matrix[-1, -1]
        moments, weighted = matrix[:-1, :-1] / c, matrix[:-1, -1] / c
        inverse = np.linalg.inv(moments - np.outer(weighted, weighted))  # Var_q(a)^-1
        k = 1 + (weighted - mean) @ inverse @ weighted
        s = (1 + weighted @ inverse @ weighted) / c
        g, g0 = gradient[unit, :-1], gradient[unit, -1]
        solved = np.linalg.solve(matrix[:-1, :-1], g)
        np.testing.assert_allclose(blocks.weighted_mean[unit], weighted, **EXACT)
        np.testing.assert_allclose(factors[unit], k, **EXACT)
        np.testing.assert_allclose(corrected[unit], mean - k * weighted, **EXACT)
        np.testing.assert_allclose(by_bias[unit], s * (g0 - matrix[:-1, -1] @ solved), **EXACT)
        # The mean net input moves as if the inputs had the corrected mean, and the bias unit k.
        moved = mean @ by_kernel[unit] + by_bias[unit]
        np.testing.assert_allclose(moved, corrected[unit] @ solved + k * g0 / c, **EXACT)


def test_nothing_is_corrected_without_a_weighted_mean():
    blocks = diagnostics.FisherBlocks(
        A=np.eye(2)[None], b=np.zeros((1, 2)), c=np.ones(1), mean=np.array([3.0, 4.0])
    )
    assert blocks.corrected_mean().tolist() == [[3, 4]]
    assert blocks.correction_factor().tolist() == [1]


def test_a_unit_without_influence_has_no_natural_gradient():
    model, x, labels = oracle.network()
    held = model.get_weights()
    held[4][1] = 0  # nothing leaves unit 1 of the second layer
    model.set_weights(held)
    blocks = diagnostics.empirical_fisher_blocks(model, "second", x, labels)
    assert np.isnan(blocks.correction_factor()).tolist() == [False, True, False, False, False]


def test_a_singular_matrix_asks_for_a_ridge():
    blocks = diagnostics.FisherBlocks(
        A=np.diag([1.0, 0.0])[None], b=np.array([[0.5, 0.0]]), c=np.ones(1), mean=np.zeros(2)
    )
    with pytest.raises(ValueError, match="give a positive ridge"):
        blocks.correction_factor()
    assert np.isfinite(blocks.correction_factor(ridge=1e-3)).all()


@pytest.mark.parametrize(
    ("layer", "labels", "message"),
    [
        ("second_elu", [0], "second_elu is not a Dense layer"),
        ("second", [0.5], "give whole numbers"),
        ("second", [[0]], "give whole numbers"),
    ],
)
def test_other_layers_and_labels_are_refused(layer, labels, message):
    model, x, _ = oracle.network()
    with pytest.raises(ValueError, match=message):
        diagnostics.dense_gradient(model, layer, x[:1], labels)


def test_a_model_without_logits_is_refused():
    model = keras.Sequential([keras.Input((2, 2)), keras.layers.Dense(2, name="dense")])
    with pytest.raises(ValueError, match="give one that returns logits"):
        diagnostics.fisher_blocks(model, "dense", np.zeros((1, 2, 2)))
