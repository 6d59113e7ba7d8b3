"""Exports: the numbers of Keras in every runtime, a true card, and one sentence for bad input."""

import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest

from keras_elu import export, models
from keras_elu.export import __main__ as command
from keras_elu.export import formats, parity

pytestmark = pytest.mark.tensorflow
for module in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
    pytest.importorskip(module)
SUFFIX = {to: form.suffix for to, form in formats.FORMATS.items()}


@pytest.fixture
def here(tmp_path, monkeypatch, digits_run):
    (tmp_path / "run").mkdir()
    for path in digits_run.glob("*.*"):
        shutil.copy(path, tmp_path / "run" / path.name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.onnx").write_text("there")
    (tmp_path / "card.md").write_text("there")
    (tmp_path / "alone.keras").write_bytes((digits_run / "model.keras").read_bytes())
    (tmp_path / "other").mkdir()
    shutil.copy(digits_run / "model.keras", tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"recipe": "unheard_of"}')
    (tmp_path / "broken").mkdir()
    shutil.copy(digits_run / "model.keras", tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "text.keras").write_text("no model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def said(*arguments, capfd):
    code = command.main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("to", "int8"),
    [
        ("savedmodel", False),
        pytest.param("litert", False, marks=pytest.mark.slow),
        pytest.param("onnx", False, marks=pytest.mark.slow),
        pytest.param("litert", True, marks=pytest.mark.slow),
        pytest.param("onnx", True, marks=pytest.mark.slow),
    ],
)
def test_an_export_gives_the_logits_of_keras_and_has_a_true_card(to, int8, here, capfd):
    out = here / f"digits{SUFFIX[to]}"
    code, shown, errors = said("run", out, "--to", to, *["--int8"] * int8, capfd=capfd)
    assert (code, errors) == (0, [])
    assert "360 images: largest difference" in shown
    model = keras.saving.load_model("run/model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype("float32")
    found = formats.FORMATS[to].load(out)(pixels)
    expected = model.predict(pixels, verbose=0)
    if int8:
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    card = (out / "README.md" if to == "savedmodel" else out.with_suffix(".md")).read_text()
    result = json.loads((here / "run" / "result.json").read_text())
    assert f"accuracy {result['test']['accuracy']:.2%}" in card
    assert card.count("the handwritten digits of scikit-learn") == 3
    assert "Classes, in the order of the logits: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in card
    assert "shape (batch, 8, 8, 1), grey" in card
    assert ("8-bit integers" in card) == int8
    assert "| epochs | 1 |" in card
    commit = json.loads((here / "run" / "environment.json").read_text())["commit"]
    assert commit is None or commit in card
    assert "None" not in re.sub("```python.*?```", "", card, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("to", formats.FORMATS)
def test_a_network_for_images_of_any_size_is_exported_as_such(to, tmp_path):
    network = models.elu_imagenet_15((None, None, 3), 5, width=1 / 32, include_preprocessing=True)
    model = models.classifier(network, class_names="abcde", image_size=(64, 64))
    formats.FORMATS[to].write(model, tmp_path / f"any{SUFFIX[to]}", None)
    run = formats.FORMATS[to].load(tmp_path / f"any{SUFFIX[to]}")
    for shape in ((1, 64, 64, 3), (3, 97, 120, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
        expected = model(pixels, training=False)
        np.testing.assert_allclose(run(pixels), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "to",
    [
        "savedmodel",
        pytest.param("litert", marks=pytest.mark.slow),
        pytest.param("onnx", marks=pytest.mark.slow),
    ],
)
def test_the_code_of_a_card_runs_as_it_stands(to, here, capfd):
    out = here / f"digits{SUFFIX[to]}"
    assert said("run", out, "--to", to, capfd=capfd)[0] == 0
    card = (out / "README.md" if to == "savedmodel" else out.with_suffix(".md")).read_text()
    names = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    assert names["images"].shape == (1, 8, 8, 1)
    assert isinstance(names["logits"], np.ndarray)
    expected = keras.saving.load_model("run/model.keras")(names["images"], training=False)
    np.testing.assert_allclose(names["logits"], expected, rtol=1e-4, atol=1e-4)
    assert names["classes"] == np.argmax(expected, -1)


def test_a_file_beyond_the_tolerance_is_not_written(here, capfd, monkeypatch):
    wrong = dataclasses.replace(
        formats.FORMATS["savedmodel"], load=lambda path: lambda pixels: np.zeros((len(pixels), 10))
    )
    monkeypatch.setitem(formats.FORMATS, "savedmodel", wrong)
    before = state(here)
    code, _, errors = said("run", "digits", "--to", "savedmodel", capfd=capfd)
    assert (code, errors) == (1, ["error: digits is not written: it is beyond its tolerance."])
    assert state(here) == before


@pytest.mark.parametrize(("factor", "ok"), [(1.0005, True), (1.002, False)])
def test_the_tolerance_is_a_thousandth_of_the_largest_logit(factor, ok):
    images = np.ones((3, 2, 2, 1))
    flat = lambda pixels: pixels.reshape(len(pixels), -1)  # noqa: E731
    found = parity.compare(lambda pixels: factor * flat(pixels), flat, images, int8=False)
    assert found.ok == ok


def test_a_model_in_half_precision_is_exported_in_float32():
    x = keras.Input((4,))
    y = keras.layers.Dense(3, dtype="mixed_bfloat16")(x)
    model = keras.Model(x, keras.layers.Dense(2, dtype="mixed_float16")(y))
    copy = formats.float32(model)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    for old, new in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert formats.float32(copy) is copy
    assert export.__doc__


TO = ("--to", "onnx")
REFUSED = {
    "nothing": ([], "required"),
    "no output": (["run"], "required"),
    "no format": (["run", "a.onnx"], "--to"),
    "an unknown format": (["run", "a.onnx", "--to", "tensorrt"], "invalid choice: 'tensorrt'"),
    "no such run": (["nowhere", "a.onnx", *TO], "nowhere does not exist"),
    "an empty folder": (["empty", "a.onnx", *TO], "holds no model.keras"),
    "text": (["text.keras", "a.onnx", *TO], "cannot be loaded"),
    "a model without a run": (["alone.keras", "a.onnx", *TO], "not in the folder of a run"),
    "another recipe": (["other", "a.onnx", *TO], "'unheard_of', which keras_elu does not have"),
    "a broken config": (["broken", "a.onnx", *TO], "is not JSON"),
    "a wrong ending": (["run", "a.tflite", *TO], "must end with .onnx"),
    "no ending": (["run", "a", "--to", "litert"], "must end with .tflite"),
    "a file that exists": (["run", "file.onnx", *TO], "file.onnx exists already"),
    "a card that exists": (["run", "card.onnx", *TO], "card.md exists already"),
    "a folder that exists": (["run", "empty", "--to", "savedmodel"], "empty exists already"),
    "a folder that does not": (["run", "no/a.onnx", *TO], "does not exist: make it first"),
    "below a file": (["run", "text.keras/a.onnx", *TO], "does not exist: make it first"),
    "int8 of a SavedModel": (["run", "a", "--to", "savedmodel", "--int8"], "--int8 has no meaning"),
    "an unknown flag": (["run", "a.onnx", *TO, "--int4"], "unrecognized arguments: --int4"),
    "an empty output": (["run", "", *TO], "cannot be a path"),
    "a null character": (["run", "a\0.onnx", *TO], "cannot be a path"),
    "a long name": (["run", "x" * 300 + ".onnx", *TO], "name too long"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_bad_input_gets_one_sentence_and_writes_nothing(arguments, expected, here, capfd):
    before = state(here)
    code, out, errors = said(*arguments, capfd=capfd)
    assert (code, out) == (2, "")
    assert len(errors) == 1
    assert expected.lower() in errors[0].lower()
    assert state(here) == before


def test_a_missing_extra_is_named(here, capfd, monkeypatch):
    missing = dataclasses.replace(formats.FORMATS["onnx"], requires=("pencil",))
    monkeypatch.setitem(formats.FORMATS, "onnx", missing)
    code, _, errors = said("run", "a.onnx", *TO, capfd=capfd)
    assert (code, errors) == (2, ["error: pencil is missing: pip install '.[export]' installs it."])
