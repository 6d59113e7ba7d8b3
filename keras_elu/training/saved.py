"""Saved models: finding and loading the classifier of a run."""

import pathlib

import keras

from keras_elu import models
from keras_elu.distributed import strategies


def find(path: pathlib.Path) -> pathlib.Path:
    """Returns the `.keras` file that a path means: itself, or the final model of a run.

    Raises:
        ValueError: With one sentence, if there is none.
    """
    if path.is_dir():
        if (path / "model.keras").is_file():
            return path / "model.keras"
        if (path / "config.json").is_file():
            raise ValueError(f"{path} is a run without a model.keras: complete the run first.")
        raise ValueError(f"{path} is not the folder of a run: it holds no model.keras.")
    if not path.exists():
        raise ValueError(f"{path} does not exist: give the folder of a run or a .keras file.")
    if path.suffix != ".keras":
        raise ValueError(f"{path} is neither the folder of a run nor a .keras file.")
    return path


def load(path: pathlib.Path) -> models.Classifier:
    """Returns the classifier in a `.keras` file; executes no code from it.

    Raises:
        ValueError: With one sentence, if the file is no model, or the model no classifier of a
            trainer.
    """
    with strategies.strategy("default").scope():
        model = read(path, f"The model in {path}")
    if not getattr(model, "class_names", ()):
        raise ValueError(
            f"The model in {path} names no classes, as the classifiers of the trainers do: give "
            "the model.keras of one."
        )
    if None in image_size(model):
        raise ValueError(f"The model in {path} names no image size: give a model of a trainer.")
    return model


def read(path: pathlib.Path, name: str) -> keras.Model:
    """Returns the model in a `.keras` file, not compiled; executes no code from it.

    Raises:
        ValueError: With one sentence that begins with `name`, if the file cannot be loaded.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for what is not its file
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"{name} cannot be loaded ({type(error).__name__}: {reason}).") from None


def image_size(model: models.Classifier) -> tuple[int | None, int | None]:
    """Returns the height and the width of the images that a classifier was evaluated on."""
    return model.image_size or tuple(model.input_shape[1:3])
