"""Names the classes of pictures.

python -m keras_elu.predict runs/first holiday.jpg pictures/
python -m keras_elu.predict runs/first/best.keras pictures/ --top 5 --csv classes.csv

A folder stands for all files in it and below it. Pictures are preprocessed as they are in the
evaluation of the run. Damaged files are named on stderr, and the exit code is then 1.
"""

import argparse
import contextlib
import csv
import functools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import tensorflow as tf
import tqdm

from keras_elu import commands, files, models, system
from keras_elu.data import crops, datasets, decoding, jpeg, streamed
from keras_elu.prepare import damage, images
from keras_elu.training import saved

BATCH_SIZE = 32  # of 224 x 224 pixels in float32, more would not fit into caches


class Prediction(NamedTuple):
    """What a model says of a picture.

    Attributes:
        path: The file.
        classes: Names and probabilities of the most probable classes, the first one first.
        error: Why the file could not be read; "" if it could.
    """

    path: pathlib.Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 2 for a wrong command line.

    Args:
        arguments: The command line. None: the process's own.
    """
    system.open_standard_streams()
    try:
        options = _parse(arguments)
        try:
            paths = find_pictures(options.paths)
            model = saved.find(options.model)
        except OSError as error:  # such as a name that is too long
            raise ValueError(f"{error.filename} cannot be read ({error.strerror}).") from error
        for flag in ("csv", "json"):
            _check_file(flag, getattr(options, flag), paths)
        model = saved.load(model)
        if not 1 <= options.top <= len(model.class_names):
            raise ValueError(
                f"--top must be from 1 to the number of classes, {len(model.class_names)}, not "
                f"{options.top}."
            )
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(_written(flag, getattr(options, flag), write))
                for flag, write in (
                    ("csv", functools.partial(_csv, top=options.top)),
                    ("json", _json),
                )
                if getattr(options, flag) is not None
            ]
            writers = writers or [_table(max(len(_shown(path)) for path in paths))]
            damaged = 0
            for prediction in _with_bar(predict(model, paths, options.top), len(paths)):
                if prediction.error:
                    damaged += 1
                    print(f"{_shown(prediction.path)}: {prediction.error}", file=sys.stderr)
                for write in writers:
                    write(prediction)
    except ValueError as error:
        return commands.failure(error)
    except OSError as error:
        return commands.failure(f"{error.filename or 'The result'}: {error.strerror}.")
    except KeyboardInterrupt:
        return commands.failure("Interrupted: no file was written.")
    if damaged:
        return commands.failure(f"{damaged:,} of {len(paths):,} files are no intact picture.")
    return 0


def find_pictures(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the files that paths mean, those of a folder in the order of their names.

    Raises:
        ValueError: With one sentence, if a path does not exist, or there is no file.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = list(_files_in(path))
            if not inside:
                raise ValueError(f"{path} holds no files: give pictures, or folders of pictures.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path} does not exist: give pictures, or folders of pictures.")
    return found


def predict(
    model: models.Classifier,
    paths: Sequence[pathlib.Path],
    top: int = 1,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Prediction]:
    """Yields what a classifier says of pictures, in their order.

    The input pipeline decodes pictures while the model computes.

    Args:
        model: The classifier.
        paths: The files.
        top: Number of classes for each picture.
        batch_size: Number of pictures in a batch.
    """
    read, errors = Reader(model), {}

    def load(number: int, draws: np.ndarray, image: np.ndarray) -> int | None:
        """Fills the image; there is no label, so 0 takes its place."""
        error = read.fill(image, paths[number], draws)
        if not error:
            return 0
        errors[number] = error
        return None

    size = min(batch_size, len(paths)) or 1
    probabilities = tf.function(
        lambda pixels: tf.nn.softmax(tf.cast(model(pixels, training=False), tf.float32)),
        input_signature=[tf.TensorSpec([size, *read.shape], tf.uint8)],
        autograph=False,
    )
    batches = datasets.read_ahead(streamed.in_order(len(paths), size, load, read.shape))
    for first, (pixels, _, _) in zip(range(0, len(paths), size), batches, strict=True):
        numbers = range(first, min(first + size, len(paths)))
        rows = probabilities(pixels).numpy()[: len(numbers)]
        orders = np.argsort(-rows, axis=1, kind="stable")[:, :top]
        for number, row, order in zip(numbers, rows, orders, strict=True):
            if number in errors:
                yield Prediction(paths[number], error=errors.pop(number))
            else:
                named = tuple((model.class_names[i], float(row[i])) for i in order)
                yield Prediction(paths[number], named)


class Reader:
    """Reads a picture as the evaluation of a run does.

    Args:
        model: The classifier.

    Attributes:
        shape: Height, width and channels of what it returns.
    """

    def __init__(self, model: models.Classifier):
        self.shape = (*saved.image_size(model), model.input_shape[-1])
        self._decoder = (
            None
            if model.crop is None
            else decoding.Decoder(
                self.shape, functools.partial(crops.central, share=model.crop), mirror=False
            )
        )

    def __call__(self, path: pathlib.Path) -> np.ndarray | str:
        """Returns the pixels of a file, uint8, or why it cannot be read."""
        image = np.empty(self.shape, np.uint8)
        return self.fill(image, path, np.zeros(decoding.DRAWS)) or image

    def fill(self, image: np.ndarray, path: pathlib.Path, draws: np.ndarray) -> str:
        """Fills an image with the pixels of a file; returns why it cannot, or "".

        Args:
            image: Is filled; of the shape, uint8.
            path: The file.
            draws: Zeros, `decoding.DRAWS` of them.
        """
        try:
            encoded = path.read_bytes()
            if self._decoder is None:
                image[...] = self._resized(self._decoded(encoded))
            else:
                self._decoder.fill(image, self._stored(encoded), draws)
        except jpeg.Damaged as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return ""

    def _stored(self, encoded: bytes) -> bytes:
        """What a prepared data set would hold: an ordinary JPEG itself, of other files a new one.

        Its decoder reduces a large JPEG, but not pixels.
        """
        is_jpeg = encoded.startswith(b"\xff\xd8\xff")
        if not is_jpeg or images.orientation(encoded) != 1 or jpeg.jpeg_shape(encoded)[2] == 4:
            return images.encode(images.decode(encoded))
        if damage.is_suspect(encoded):
            images.decode(encoded)  # raises the reason
        return encoded

    def _decoded(self, encoded: bytes) -> np.ndarray:
        pixels = images.decode(encoded)
        if self.shape[-1] == 1:
            return np.asarray(PIL.Image.fromarray(pixels).convert("L"))[..., np.newaxis]
        return pixels

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.shape == self.shape:
            return pixels
        resized = tf.image.resize(tf.cast(pixels, tf.float32), self.shape[:2])
        return tf.cast(resized + 0.5, tf.uint8).numpy()


def _files_in(folder: pathlib.Path, above: tuple = ()) -> Iterator[pathlib.Path]:
    """The files in a folder and in those below it, also behind links, without hidden ones."""
    status = folder.stat()
    place = status.st_dev, status.st_ino
    if place in above:  # a link to a folder around it
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from _files_in(path, (*above, place))


def _with_bar(predictions: Iterator[Prediction], count: int) -> Iterator[Prediction]:
    shown = sys.stderr.isatty()
    return tqdm.tqdm(predictions, total=count, unit=" pictures", disable=not shown, leave=False)


def _table(width: int) -> Callable[[Prediction], Any]:
    def write(prediction: Prediction) -> None:
        if not prediction.error:
            shown = "  ".join(f"{name} {share:.1%}" for name, share in prediction.classes)
            tqdm.tqdm.write(f"{_shown(prediction.path):<{width}}  {shown}")

    return write


def _shown(path: pathlib.Path) -> str:
    """The path as text, also if it is not in the encoding of the system."""
    return os.fsencode(path).decode(errors="backslashreplace")


@contextlib.contextmanager
def _written(flag: str, path: pathlib.Path, write) -> Iterator[Callable[[Prediction], Any]]:
    """Opens a file that is complete or absent."""
    with (
        files.aside(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        write(file) as writer,
    ):
        yield writer
    print(f"--{flag}: the predictions are in {path}.")


@contextlib.contextmanager
def _csv(file, top: int) -> Iterator[Callable[[Prediction], Any]]:
    rows = csv.writer(file)
    more = [f"{column}_{n}" for n in range(2, top + 1) for column in ("class", "probability")]
    rows.writerow(["path", "class", "probability", *more])

    def write(prediction: Prediction) -> None:
        if not prediction.error:
            rows.writerow([prediction.path, *(v for pair in prediction.classes for v in pair)])

    yield write


@contextlib.contextmanager
def _json(file) -> Iterator[Callable[[Prediction], Any]]:
    """A list, of which each entry is on a line of its own."""
    before = "[\n"

    def write(prediction: Prediction) -> None:
        nonlocal before
        of = {"path": str(prediction.path)}
        if prediction.error:
            of["error"] = prediction.error
        else:
            of["classes"] = [{"class": n, "probability": p} for n, p in prediction.classes]
        file.write(before + json.dumps(of))
        before = ",\n"

    yield write
    file.write("\n]\n")


def _check_file(flag: str, path: pathlib.Path | None, pictures: Sequence[pathlib.Path]) -> None:
    """Raises `ValueError`, with one sentence, if a file cannot be written."""
    if path is None:
        return
    try:
        if path.is_dir() or not path.name:
            raise ValueError(f"--{flag} {path} is a folder: name a file.")
        if not path.parent.is_dir():
            raise ValueError(f"--{flag} {path} is in a folder that does not exist: make it first.")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ValueError(f"--{flag} {path} cannot be written: {path.parent} forbids it.")
        if path.exists() and any(path.samefile(picture) for picture in pictures):
            raise ValueError(f"--{flag} {path} is one of the pictures: name another file.")
    except OSError as error:
        raise ValueError(f"--{flag} {path} cannot be written ({error.strerror}).") from error


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.predict", __doc__)
    parser.add_argument(
        "model", type=_path, metavar="RUN_OR_KERAS", help="folder of a run, or a .keras file"
    )
    parser.add_argument(
        "paths", nargs="+", type=_path, metavar="PATH", help="a picture, or a folder of pictures"
    )
    parser.add_argument(
        "--top", type=int, default=1, metavar="K", help="classes for each picture (default: 1)"
    )
    parser.add_argument("--csv", type=_path, metavar="FILE", help="CSV file for the predictions")
    parser.add_argument("--json", type=_path, metavar="FILE", help="JSON file for the predictions")
    options = parser.parse_args(arguments)
    if options.csv is not None and options.csv == options.json:
        raise ValueError(f"--csv and --json both name {options.csv}: name two files.")
    return options


def _path(text: str) -> pathlib.Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a path")
    return pathlib.Path(text).expanduser()


if __name__ == "__main__":
    sys.exit(main())
