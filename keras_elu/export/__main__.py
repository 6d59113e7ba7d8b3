"""Exports a trained classifier, and compares the result with Keras on images of its run.

python -m keras_elu.export runs/first first.onnx --to onnx
python -m keras_elu.export runs/first first.tflite --to litert --int8
python -m keras_elu.export runs/first first --to savedmodel

Preprocessing is part of the exported model, which takes pixels from 0 to 255 and returns logits,
for any number of images. A model card describes it: README.md in a folder, or NAME.md next to a
file. If a format gives other results than Keras, nothing is written, and the exit code is 1.
"""

import argparse
import importlib
import os
import pathlib
import pkgutil
import shutil
import sys
import types
from collections.abc import Sequence

import numpy as np

from keras_elu import commands, files, models, recipes, system
from keras_elu.export import card, formats, parity
from keras_elu.training import command_line, saved
from keras_elu.training.config import resolve
from keras_elu.training.run import load_dataset

IMAGES = 512  # of the test images, to compare
CALIBRATION = 200  # of the validation images, to choose the ranges of 8-bit integers


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 2 for a wrong command line.

    Args:
        arguments: The command line. None: the process's own.
    """
    system.open_standard_streams()
    try:
        options = _parse(arguments)
        out, form = options.out, formats.FORMATS[options.to]
        _check(options)
        source = _found(options.model)
        model = saved.load(source)
        images, calibration = _images(source, model, options.int8)
        unfinished = out.with_name(f"unfinished-{out.name}")
        try:
            found = _write(model, unfinished, options, images, calibration)
            print(f"{source} as {options.to}: {found}", flush=True)
            if not found.ok:
                return commands.failure(f"{out} is not written: it is beyond its tolerance.")
            text = card.write(model, source, out, options.to, found)
            if form.suffix:
                described = out.with_suffix(".md")
                with files.aside(described) as path:
                    path.write_text(text, encoding="utf-8")
            else:
                described = out / "README.md"
                (unfinished / "README.md").write_text(text, encoding="utf-8")
            files.complete(unfinished, out)
        finally:
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            unfinished.unlink(missing_ok=True)
    except ValueError as error:
        return commands.failure(error)
    except OSError as error:
        return commands.failure(f"{error.filename or options.out}: {error.strerror}.")
    except KeyboardInterrupt:
        return commands.failure("Interrupted: nothing was written.")
    print(f"The model is in {out}, and its card in {described}.")
    return 0


def _write(
    model: models.Classifier,
    path: pathlib.Path,
    options: argparse.Namespace,
    images: np.ndarray,
    calibration: np.ndarray | None,
) -> parity.Parity:
    """Writes a model in a format, runs it there, and compares."""
    form = formats.FORMATS[options.to]
    try:
        with formats.quiet():
            model = formats.float32(model)
            form.write(model, path, calibration)
            run = form.load(path)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # converters raise many kinds
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
        raise ValueError(f"The model cannot be converted to {options.to} ({reason}).") from error
    return parity.compare(run, lambda pixels: model(pixels, training=False), images, options.int8)


def _images(
    source: pathlib.Path, model: models.Classifier, int8: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns test images of the run, and validation images, one to a batch, for calibration."""
    path = source.parent / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{source} is not in the folder of a run, whose images the export is compared on: "
            "give the folder, or the file there."
        )
    recipe = _recipe(path)
    config = resolve(recipe, command_line.parse(recipe, ["--config", str(path)]))
    dataset = load_dataset(config)
    _, validation, test = recipe.datasets(config, dataset, preprocess="none")
    images = _first(test, IMAGES)
    wanted = model.input_shape[1:]
    if not all(a in (None, b) for a, b in zip(wanted, images.shape[1:], strict=True)):
        raise ValueError(f"{source} takes images of shape {wanted}, not those of {dataset.name}.")
    return images, _first(validation, CALIBRATION)[:, np.newaxis] if int8 else None


def _first(batches, count: int) -> np.ndarray:
    found, size = [], 0
    for images, _ in batches:
        found.append(images.numpy().astype("float32"))
        size += len(found[-1])
        if size >= count:
            break
    return np.concatenate(found)[:count]


def _recipe(path: pathlib.Path) -> types.ModuleType:
    try:
        name = files.read_object(path).get("recipe")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if name not in {module.name for module in pkgutil.iter_modules(recipes.__path__)}:
        raise ValueError(f"{path} belongs to the recipe {name!r}, which keras_elu does not have.")
    return importlib.import_module(f"{recipes.__name__}.{name}")


def _found(path: pathlib.Path) -> pathlib.Path:
    try:
        return saved.find(path)
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error


def _check(options: argparse.Namespace) -> None:
    """Raises `ValueError`, with one sentence, if the result cannot be written."""
    out, form = options.out, formats.FORMATS[options.to]
    if options.int8 and not form.quantizes:
        raise ValueError(f"--int8 has no meaning for --to {options.to}: it is for litert and onnx.")
    if out.suffix != form.suffix and form.suffix:
        raise ValueError(f"{out} must end with {form.suffix} for --to {options.to}.")
    written = [out, out.with_suffix(".md")] if form.suffix else [out]
    for path in written:
        if os.path.lexists(path):
            raise ValueError(f"{path} exists already: name another file, or remove it.")
    try:
        out.with_name(f"unfinished-{out.name}").exists()
    except (OSError, ValueError) as error:
        raise ValueError(f"{out} cannot be written ({error}).") from error
    if not out.parent.is_dir():
        raise ValueError(f"{out} is in a folder that does not exist: make it first.")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{out} cannot be written: {out.parent} forbids it.")
    commands.require(*form.requires, extra="export")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.export", __doc__)
    parser.add_argument(
        "model", type=_path, metavar="RUN_OR_KERAS", help="folder of a run, or a .keras file in it"
    )
    parser.add_argument("out", type=_path, metavar="OUT", help="file or folder to write")
    parser.add_argument("--to", choices=list(formats.FORMATS), required=True, help="format")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="8-bit integers, calibrated on validation images of the run (litert and onnx)",
    )
    return parser.parse_args(arguments)


def _path(text: str) -> pathlib.Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a path")
    return pathlib.Path(text).expanduser()


if __name__ == "__main__":
    sys.exit(main())
