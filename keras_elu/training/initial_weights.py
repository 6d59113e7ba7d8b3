"""Initial weights from another run, where they fit."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_elu import data
from keras_elu.training import saved
from keras_elu.training.config import Config
from keras_elu.training.run import Run
from keras_elu.training.store import Checkpoint, Store, read

Pretrained = Callable[[Config, data.Dataset], keras.Model]


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a network has taken from initial weights.

    Args:
        source: Where the weights come from.
        taken: Paths of the variables that have values from there.
        new: Paths of the other variables, whose values are random.
    """

    source: str
    taken: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        text = f"initial weights from {self.source}: {len(self.taken)} variables taken"
        return f"{text}; new: {', '.join(self.new) or 'none'}"


def take(run: Run, pretrained: Pretrained | None = None) -> Taken:
    """Gives the model of a run its `--initial_weights`, where they fit by layer, name and shape.

    Executes no code from the file. Counters and states of random generators are not taken.

    Args:
        run: The run.
        pretrained: Of the recipe: returns the network with the weights that "imagenet" means.

    Raises:
        ValueError: With one sentence, if there are no weights, or none fits.
    """
    path = run.config.initial_weights
    if path == "imagenet" and pretrained is not None:
        source, values = path, _of_model(pretrained(run.config, run.dataset))
    else:
        source, values = _values(pathlib.Path(path))
    weights = [v for v in run.model.weights if keras.backend.is_float_dtype(v.dtype)]
    fitting = {
        id(v): values[_name(v.path)]
        for v in weights
        if _name(v.path) in values and values[_name(v.path)].shape == tuple(v.shape)
    }
    if not fitting:
        raise ValueError(
            f"--initial_weights {path} holds nothing that fits: the network has "
            f"{_example(weights[0].path, weights[0].shape)}, and the file "
            f"{_example(*next(((n, v.shape) for n, v in values.items()), ('nothing', ())))}."
        )
    for variable in weights:
        if id(variable) in fitting:
            variable.assign(fitting[id(variable)])
    return Taken(
        source,
        tuple(v.path for v in weights if id(v) in fitting),
        tuple(v.path for v in weights if id(v) not in fitting),
    )


def _values(path: pathlib.Path) -> tuple[str, dict[str, np.ndarray]]:
    """Returns where the weights were found, and their values by name."""
    if path.is_dir():
        if (path / "model.keras").exists():
            path = path / "model.keras"
        else:
            checkpoint = Store(path / "checkpoints").newest()
            if checkpoint is None:
                raise ValueError(
                    f"--initial_weights {path} holds neither a model.keras nor a checkpoint."
                )
            return f"{path}, after step {checkpoint.step:,}", _of_checkpoint(path, checkpoint)
    if path.suffix == ".npz":
        checkpoint = read(path)
        if checkpoint is None:
            raise ValueError(f"--initial_weights {path} is damaged, or not a checkpoint.")
        return str(path), _of_checkpoint(path, checkpoint)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"--initial_weights {path} is not the folder of a run, nor a checkpoint or .keras file."
        )
    return str(path), _of_model(saved.read(path, f"--initial_weights {path}"))


def _of_model(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the values of a model's weights by name."""
    return {_name(v.path): keras.ops.convert_to_numpy(v) for v in model.weights}


def _of_checkpoint(path: pathlib.Path, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Returns the weights that evaluation would use: averages, where the optimizer keeps some."""
    paths = checkpoint.state.get("paths")
    if paths is None:
        raise ValueError(
            f"--initial_weights {path} holds a checkpoint without the names of its variables: "
            "complete the run, and give its model.keras."
        )
    values = {p: checkpoint.arrays[f"variable {i}"] for i, p in enumerate(paths)}
    return {_name(p): _averaged(p, values) for p in paths[: len(checkpoint.state["shapes"])]}


def _averaged(path: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    ending = f"{path.replace('/', '_')}_average"
    found = [p for p in values if p.rpartition("/")[2] == ending]
    return values[found[0] if found else path]


def _name(path: str) -> str:
    """Returns the layer and the name of a variable, without the models that the layer is in."""
    return "/".join(path.split("/")[-2:])


def _example(path: str, shape) -> str:
    return f"{path} {tuple(shape)}"
