"""Every example in a docstring runs and gives what it shows."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_elu

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(keras_elu.__path__, prefix="keras_elu.")
)
pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"np": np, "keras": keras, "tf": tf, "keras_elu": keras_elu} | vars(module)
    for example in doctest.DocTestFinder().find(module, extraglobs=names):
        failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
        assert failed == 0, f"see the output above for {example.name}"
