"""The formats: how a model is written, and how its file is run."""

import contextlib
import dataclasses
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Run = Callable[[np.ndarray], np.ndarray]
_HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: Ending of the file name; "" for a folder.
        write: Writes a model to a path. The last argument holds images for calibration, each a
            batch of one, or is None without quantization.
        load: Returns the function from pixels to logits that the format's runtime computes.
        requires: Modules that it needs, besides those that the package requires.
        quantizes: Whether there is a variant with 8-bit integers.
        call: Python code that computes `logits`, an array; `{images}` stands for the line that
            defines `images`, and `{path}` for the file.
    """

    suffix: str
    write: Callable[[keras.Model, pathlib.Path, np.ndarray | None], None]
    load: Callable[[pathlib.Path], Run]
    requires: tuple[str, ...]
    quantizes: bool
    call: str


def float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32: itself, or a copy with the same weights."""
    config = model.get_config()
    replaced = _replaced(config)
    if replaced == config:
        return model
    copy = type(model).from_config(replaced)
    copy.set_weights(model.get_weights())
    return copy


def _called(model: keras.Model) -> keras.Model:
    """The model after one call, which Keras requires of models that become ONNX."""
    model(np.zeros([1, *(side or 32 for side in model.input_shape[1:])], "float32"))
    return model


def _replaced(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _replaced(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(_replaced, config))
    return "float32" if isinstance(config, str) and config in _HALF else config


def _write_savedmodel(model, path, calibration):
    del calibration
    model.export(path, verbose=False)


def _load_savedmodel(path):
    loaded = tf.saved_model.load(path)
    return lambda pixels: np.asarray(loaded.serve(tf.constant(pixels, tf.float32)))


def _write_litert(model, path, calibration):
    if calibration is None:
        model.export(path, format="litert", verbose=False)
        return
    model.export(
        path,
        format="litert",
        verbose=False,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image] for image in calibration),
    )


def _load_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels):
        interpreter.resize_tensor_input(entry["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], pixels.astype("float32"))
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def _write_onnx(model, path, calibration):
    if calibration is None:
        _called(model).export(path, format="onnx", verbose=False)
        return
    from onnxruntime import quantization

    whole = path.with_name(f"{path.stem}-float32.onnx")
    try:
        _called(model).export(whole, format="onnx", verbose=False)
        quantization.quantize_static(whole, path, _Calibration(whole, calibration))
    finally:
        whole.unlink(missing_ok=True)


class _Calibration:
    """The images for calibration, as onnxruntime reads them."""

    def __init__(self, path, images):
        import onnxruntime

        (entry,) = onnxruntime.InferenceSession(path).get_inputs()
        self._name, self._images = entry.name, iter(images)

    def get_next(self):
        image = next(self._images, None)
        return None if image is None else {self._name: image}

    def __iter__(self):
        return self

    def __next__(self):
        if (batch := self.get_next()) is None:
            raise StopIteration
        return batch

    def set_range(self, start_index, end_index):
        """Has no effect: all images are read at once."""


def _load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (entry,) = session.get_inputs()
    return lambda pixels: session.run(None, {entry.name: pixels.astype("float32")})[0]


FORMATS = {
    "savedmodel": Format(
        suffix="",
        write=_write_savedmodel,
        load=_load_savedmodel,
        requires=(),
        quantizes=False,
        call=(
            "import tensorflow as tf\n\n{images}\n"
            "model = tf.saved_model.load({path!r})\n"
            "logits = model.serve(images).numpy()"
        ),
    ),
    "litert": Format(
        suffix=".tflite",
        write=_write_litert,
        load=_load_litert,
        requires=("ai_edge_litert",),
        quantizes=True,
        call=(
            "from ai_edge_litert.interpreter import Interpreter\n\n{images}\n"
            "model = Interpreter({path!r})\n"
            'entry = model.get_input_details()[0]["index"]\n'
            'result = model.get_output_details()[0]["index"]\n'
            "model.resize_tensor_input(entry, images.shape)\n"
            "model.allocate_tensors()\n"
            "model.set_tensor(entry, images)\n"
            "model.invoke()\n"
            "logits = model.get_tensor(result)"
        ),
    ),
    "onnx": Format(
        suffix=".onnx",
        write=_write_onnx,
        load=_load_onnx,
        requires=("onnx", "onnxruntime", "tf2onnx"),
        quantizes=True,
        call=(
            "import onnxruntime\n\n{images}\n"
            "model = onnxruntime.InferenceSession({path!r})\n"
            "(logits,) = model.run(None, {{model.get_inputs()[0].name: images}})"
        ),
    ),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the converters, which write many lines that mean nothing to people."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)
