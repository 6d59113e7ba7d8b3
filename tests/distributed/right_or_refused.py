"""Checks that a model is computed as by stock Keras on one replica, or refused beforehand.

Stock Keras on one replica is the oracle. Equal seeds give equal weights to both models.
"""

import dataclasses
import pathlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from keras_elu import training

SETTINGS = {
    "one replica": ("default", 1),
    "two replicas": ("mirrored", 1),
    "two micro-batches": ("default", 2),
}
SEVERAL_PIECES = ("two replicas", "two micro-batches")
ROWS = 9  # in batches of 4: one of two replicas gets no row of the last batch


def slow_but(cases, *fast):
    """Returns cases as parameters of a test, which are slow except for the given ones."""
    return [pytest.param(c, marks=[] if c in fast else [pytest.mark.slow]) for c in cases]


class Refused(Exception):
    """A model was refused properly: in one sentence, and before anything had changed."""


@dataclasses.dataclass
class Case:
    """A model, its data and its compilation.

    Attributes:
        network: Takes the inputs and returns the outputs.
        data: The arrays x, y and possibly sample_weight.
        inputs: Makes the inputs; by default one for each row of x.
        compiling: Makes the arguments of `compile`; called in the scope of the strategy.
        fitting: Further arguments of `fit`.
        state: Returns variables of the model to compare that Keras does not list in its weights.
        model: Makes the model from its class, instead of `network`.
        uses: The methods that are tried.
    """

    network: Callable | None
    data: tuple
    inputs: Callable[[], Any] | None = None
    compiling: Callable[[], dict] = dict
    fitting: dict = dataclasses.field(default_factory=dict)
    state: Callable[[keras.Model], Sequence] = lambda model: []
    model: Callable | None = None
    batch_size: int = 4
    epochs: int = 1
    uses: tuple[str, ...] = ("fit", "evaluate", "predict")


def one_sentence(error: ValueError) -> str:
    """Returns the text of an error, which must be a sentence."""
    text = str(error)
    assert "\n" not in text, text
    assert text.endswith("."), text
    assert text[0].isupper(), text
    return text


def is_deliberate(error: ValueError) -> bool:
    """Returns whether a `raise` in keras_elu raised the error, and not something that it called."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "keras_elu" in pathlib.Path(frame.filename).parts and frame.line.startswith("raise")


def made(case: Case, cls: type, strategy: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    with training.strategy(strategy).scope():
        if case.model:
            return case.model(cls)
        if case.inputs:
            inputs = case.inputs()
        else:
            inputs = keras.Input(case.data[0].shape[1:], dtype=case.data[0].dtype.name)
        return cls(inputs, case.network(inputs))


def compiled(case: Case, model: keras.Model, strategy: str, **keywords) -> keras.Model:
    with training.strategy(strategy).scope():
        arguments = {"optimizer": keras.optimizers.SGD(0.05), "loss": "mse", "jit_compile": False}
        model.compile(**(arguments | case.compiling() | keywords))
    return model


def stock(case: Case) -> dict[str, np.ndarray]:
    """Returns the results of stock Keras on one replica."""
    return results(case, compiled(case, made(case, keras.Model, "default"), "default"))


def ours(case: Case, setting: str, **keywords) -> dict[str, np.ndarray]:
    """Returns the results of a `DistributedModel`.

    Raises:
        Refused: If it is refused.
    """
    strategy, parts = SETTINGS[setting]
    model = made(case, training.DistributedModel, strategy)
    before = [v.numpy() for v in model.weights]
    try:
        compiled(case, model, strategy, micro_batches=parts, **keywords)
        before += [v.numpy() for v in case.state(model)]
        return results(case, model)
    except ValueError as error:
        text = one_sentence(error)
        if not is_deliberate(error):
            raise AssertionError(f"fails by chance: {text}") from error
        after = [v.numpy() for v in model.weights]
        if len(before) > len(after):
            after += [v.numpy() for v in case.state(model)]
        for old, new in zip(before, after, strict=False):
            np.testing.assert_array_equal(old, new, "refused after something had changed")
        optimizer = model.optimizer
        assert optimizer is None or not int(optimizer.iterations.numpy()), "refused after a step"
        raise Refused(text) from error


def results(case: Case, model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the logs, weights and predictions of a model that is trained, evaluated and used."""
    x, *rest = case.data
    given = dict(zip(("y", "sample_weight"), rest, strict=False))
    size = {"batch_size": case.batch_size, "verbose": 0}
    seen = {}
    for use in case.uses:
        if use == "predict":
            outputs = keras.tree.flatten(model.predict(x, **size))
            seen |= {f"prediction {i}": output for i, output in enumerate(outputs)}
        else:
            if use == "fit":
                fitting = {"epochs": case.epochs, "shuffle": False} | case.fitting
                logs = model.fit(x, **given, **size, **fitting).history
            else:
                logs = model.evaluate(x, **given, **size, return_dict=True)
            seen |= {f"{use}: {name}": value for name, value in logs.items()}
        seen |= weights(case, model, f"after {use}")
    return seen


def weights(case: Case, model: keras.Model, when: str) -> dict[str, np.ndarray]:
    listed = [*model.weights, *case.state(model)]
    return {f"{when}: {i} {getattr(v, 'path', v.name)}": v.numpy() for i, v in enumerate(listed)}


def differences(got: dict, expected: dict, tolerance: float = 1e-5) -> dict[str, str]:
    """Returns what differs, by name; weights are paired by position."""
    assert len(got) == len(expected), (got.keys(), expected.keys())
    wrong = {}
    for (name, a), b in zip(got.items(), expected.values(), strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        if a.shape != b.shape:
            wrong[name] = f"shape {a.shape}, not {b.shape}"
        elif not np.allclose(a, b, tolerance, tolerance, equal_nan=True):
            place = np.argmax(np.abs(a - b)) if a.size else 0
            wrong[name] = f"{a.flat[place]:.7g}, not {b.flat[place]:.7g}"
    return wrong


def assert_right(case: Case, setting: str, expected: dict, tolerance: float = 1e-5) -> None:
    wrong = differences(ours(case, setting), expected, tolerance)
    assert not wrong, (setting, wrong)


def assert_right_or_refused(
    case: Case, setting: str, expected: dict, tolerance: float = 1e-5
) -> None:
    """Asserts that a case is right; in several pieces it may be refused instead."""
    try:
        assert_right(case, setting, expected, tolerance)
    except Refused:
        assert setting in SEVERAL_PIECES
