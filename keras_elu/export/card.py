"""The model card: what a file is, in Markdown, from the files of its run."""

import pathlib
from typing import Any

from keras_elu import files, models
from keras_elu.export.formats import FORMATS
from keras_elu.export.parity import Parity
from keras_elu.training import saved

_MOST_CLASSES = 20
# The data sets whose names in TFDS are not those that people know.
_DATASETS = {
    "digits": "the handwritten digits of scikit-learn",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet2012": "ImageNet (ILSVRC 2012)",
}
_KINDS = {"savedmodel": "TensorFlow SavedModel", "litert": "LiteRT", "onnx": "ONNX"}


def write(
    model: models.Classifier, source: pathlib.Path, out: pathlib.Path, to: str, parity: Parity
) -> str:
    """Returns the card.

    Args:
        model: The Keras model.
        source: Its file, in the folder of its run.
        out: The exported file or folder.
        to: Its format.
        parity: Its comparison with the Keras model.
    """
    config, environment, result = (
        files.read_json(source.parent / f"{name}.json")
        for name in ("config", "environment", "result")
    )
    height, width = saved.image_size(model)
    channels = model.input_shape[-1]
    any_size = " Other sizes are accepted." if None in model.input_shape[1:3] else ""
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    treatment = (
        "the whole picture, resized"
        if model.crop is None
        else f"the central square with {model.crop:g} of the shorter side, resized"
    )
    dataset = _DATASETS.get(config.get("dataset"), config.get("dataset"))
    kind = _KINDS[to] + (", quantized to 8-bit integers" if parity.int8 else "")
    images = (
        f"images = np.zeros((1, {height}, {width}, {channels}), np.float32)  # yours: from 0 to 255"
    )
    lines = [
        f"# {model.name} on {dataset}",
        "",
        f"An image classifier for {len(model.class_names)} classes, trained on {dataset} by the "
        f"Python package keras_elu and exported as {kind}.",
        "",
        "## Use",
        "",
        f"Input: float32 pixels from 0 to 255, shape (batch, {height}, {width}, {channels}), "
        f"{colours}; {treatment} bilinearly.{any_size} Preprocessing is part of the model. "
        "Output: logits, one for each class.",
        "",
        "```python",
        "import numpy as np",
        FORMATS[to].call.format(path=out.name, images=images),
        "classes = logits.argmax(-1)",
        "```",
        "",
        f"Classes, in the order of the logits: {_listed(model.class_names)}.",
        "",
        "## Training",
        "",
        *_table(_training(model, config, environment, result, source)),
        "",
        "## Accuracy",
        "",
        *_accuracy(dataset, result, source),
        f"Compared with the Keras model on {parity.images:,} test images, the exported file makes "
        f"{parity.equal:.2%} equal decisions; the largest difference is {parity.difference:.2g}, "
        f"of logits up to {parity.scale:.3g}.",
        "",
        "## Limits and licence",
        "",
        "The accuracy holds for pictures like those of the data set. The model answers with one of "
        "its classes for every picture, also for one that shows none of them.",
        "",
        "keras_elu is licensed under Apache-2.0. The weights come without a licence of their own: "
        "to publish them, choose one that the terms of the data set allow.",
        "",
    ]
    return "\n".join(lines)


def _training(model, config, environment, result, source) -> dict[str, Any]:
    best = result.get("best", {})
    epoch = best.get("epoch") if source.name == best.get("model") else result.get("epochs")
    commit = environment.get("commit")
    return {
        "recipe": config.get("recipe"),
        "data set": config.get("dataset"),
        "parameters": f"{model.count_params():,}",
        "activation": config.get("activation"),
        "epochs": epoch if source.name in ("model.keras", best.get("model")) else None,
        "initial weights": config.get("initial_weights") or "random",
        "seed": config.get("seed"),
        "precision": config.get("precision"),
        "commit of keras_elu": commit,
        "started": environment.get("started"),
        "versions": ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items()),
    }


def _accuracy(dataset, result, source) -> list[str]:
    of = None
    if source.name == "model.keras":
        of = result
    elif source.name == result.get("best", {}).get("model"):
        of = result["best"]
    if not of or not of.get("test"):
        return []
    metrics = ", ".join(f"{name} {_number(name, v)}" for name, v in of["test"].items())
    return [f"On the test images of {dataset}, the Keras model has {metrics}.", ""]


def _number(name: str, value: float) -> str:
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4g}"


def _table(values: dict[str, Any]) -> list[str]:
    rows = [f"| {key} | {value} |" for key, value in values.items() if value is not None]
    return ["| | |", "|-|-|", *rows]


def _listed(names) -> str:
    if len(names) <= _MOST_CLASSES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_CLASSES])} and {len(names) - _MOST_CLASSES} more"
