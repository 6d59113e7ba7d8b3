"""A small network in NumPy, with derivatives by complex steps, which lose no digits."""

import keras
import numpy as np

from keras_elu import layers

ALPHA = 0.7
STEP = 1e-30


def network(seed=0):
    """Returns a model of three dense layers, and inputs and labels for it."""
    inputs = keras.Input((3,))
    x = layers.ELU(name="first_elu")(keras.layers.Dense(4, name="first")(inputs))
    x = layers.ELU(ALPHA, name="second_elu")(keras.layers.Dense(5, name="second")(x))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=w.shape).astype("float32") for w in model.weights])
    x = random.normal(size=(40, 3)).astype("float32")
    return model, x, random.integers(0, 3, 40)


def weights(model):
    return [np.asarray(w, "float64") for w in model.get_weights()]


def elu(z, alpha):
    return np.where(z.real > 0, z, alpha * (np.exp(np.minimum(z.real, 0) + 1j * z.imag) - 1))


def forward(held, x):
    """The outputs of both activations, and the logits; real for real weights."""
    first = elu(x.astype(complex) @ held[0] + held[1], 1.0)
    second = elu(first @ held[2] + held[3], ALPHA)
    return first, second, second @ held[4] + held[5]


def log_likelihood(held, x, labels):
    logits = forward(held, x)[2]
    return logits[np.arange(len(x)), labels] - np.log(np.exp(logits).sum(axis=1))


def example_gradients(held, x, labels, which):
    """The gradient of each example's log-likelihood by one weight array: (batch, *shape)."""
    result = np.zeros((len(x), *held[which].shape))
    for index in np.ndindex(held[which].shape):
        moved = [w.astype(complex) for w in held]
        moved[which][index] += 1j * STEP
        result[(slice(None), *index)] = log_likelihood(moved, x, labels).imag / STEP
    return result
