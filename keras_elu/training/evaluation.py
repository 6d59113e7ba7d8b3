"""Evaluating a model: with averaged weights, or one that an earlier run saved."""

import dataclasses
import pathlib
import types
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_elu import files
from keras_elu.steps import keras_internals
from keras_elu.training import checkpoints
from keras_elu.training import saved as saved_models
from keras_elu.training.config import Config, recipe_name, resolve
from keras_elu.training.run import Run, compiled, load_dataset, prepare_run
from keras_elu.training.run_folder import read_class_names
from keras_elu.training.store import Store, read


class Averages(keras.callbacks.Callback):
    """Validates with the moving averages of the weights that the optimizer keeps (`use_ema`).

    `fit` leaves the averages in the model when it ends. `keras.callbacks.SwapEMAWeights` swaps the
    two by adding and subtracting, which leaves rounding errors in both.
    """

    _kept: list[np.ndarray] | None = None

    def on_test_begin(self, logs=None):
        averages = keras_internals.moving_averages(self.model.optimizer)
        self._kept = [keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables]
        for variable, average in zip(self.model.trainable_variables, averages, strict=True):
            variable.assign(average.value)

    def on_test_end(self, logs=None):
        for variable, value in zip(self.model.trainable_variables, self._kept, strict=True):
            variable.assign(value)
        self._kept = None


def prepare(
    recipe: types.ModuleType, config: Config, strategy: tf.distribute.Strategy, given: Config
) -> tuple[Run, str]:
    """Prepares the evaluation that `--evaluate` asks for.

    A `.keras` file holds its network. Checkpoints and weights need that of the configuration.

    Args:
        recipe: The recipe's module.
        config: The complete configuration: that of the run, if there is one, and the flags.
        strategy: The strategy of the process.
        given: The configuration before defaults were filled in.

    Returns:
        A run with the weights to evaluate, and where they were found.

    Raises:
        ValueError: With one sentence, if there are no weights, they do not fit the configuration,
            or the data set has a class that the model lacks.
    """
    dataset = load_dataset(config)
    # Metrics do not depend on the batches, and the set may be smaller than the run's.
    config = dataclasses.replace(
        config, batch_size=min(config.batch_size, dataset.examples["train"])
    )
    path = pathlib.Path(config.evaluate)
    if (path / "model.keras").exists():
        path = path / "model.keras"
    if path.suffix == ".keras" and path.is_file():
        return _prepare_file(recipe, config, strategy, given, dataset, path), str(path)
    class_names = _of_run(path, read_class_names)
    if class_names is not None:
        dataset.relabel(class_names)
    run = prepare_run(recipe, config, strategy, dataset=dataset)
    run.model.build_for(run.training(0).element_spec)
    source = restore(run.model, path)
    trained = _of_run(path, _read_config)
    if trained is not None and trained.get("dataset") != config.dataset:
        raise ValueError(
            f"{path} holds weights for {trained.get('dataset')}, not for {config.dataset}: "
            "complete the run, and evaluate its model.keras."
        )
    if class_names is None and _classifies(run.model):
        raise ValueError(
            f"{path} does not name its classes: put the class_names.json of the run next to it, or "
            "evaluate the run's model.keras."
        )
    return run, source


def _prepare_file(recipe, config, strategy, given, dataset, path) -> Run:
    with strategy.scope():
        saved = _loaded(path)
        names = getattr(saved, "class_names", ())
        if names:
            dataset.relabel(names)
        elif _classifies(saved):
            raise ValueError(
                f"{path} does not name its classes, as a model.keras of a trainer does: evaluate "
                "that."
            )
        size = getattr(saved, "image_size", None)
        if size and getattr(given, "image_size", 0) is None and size[0] == size[1]:
            config = dataclasses.replace(config, image_size=size[0])
        steps_per_epoch = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
        steps = steps_per_epoch * config.epochs
        network, arguments = recipe.build(config, dataset, steps)
        if difference := _difference(saved, network):
            of_run = _of_run(path, _read_config) is not None
            default = recipe.Config(dataset=config.dataset, batch_size=config.batch_size)
            usual, _ = recipe.build(resolve(recipe, default), dataset, steps)
            if of_run or _difference(network, usual):
                raise ValueError(
                    f"{path} {difference}, unlike {'its config.json or ' * of_run}the flags: give "
                    "none that describe the network, and keep it with the config.json of its run."
                )
        _, validation, test = recipe.datasets(config, dataset, preprocess="none")
        wanted, found = saved.input_shape[1:], tuple(test.element_spec[0].shape[1:])
        if not all(side in (None, own) for side, own in zip(wanted, found, strict=True)):
            raise ValueError(
                f"{path} takes images of shape {wanted}, and those of {dataset.name} have {found}."
            )
        return Run(
            recipe=recipe_name(recipe),
            trial=None,
            config=config,
            dataset=dataset,
            steps_per_epoch=steps_per_epoch,
            replicas=strategy.num_replicas_in_sync,
            model=compiled(saved, arguments, config),
            self_contained=lambda: saved,
            training=lambda start: recipe.datasets(config, dataset, start, "none")[0],
            validation=validation,
            test=test,
        )


def _loaded(path: pathlib.Path) -> keras.Model:
    """Returns the model in a `.keras` file, which must have one input and one output."""
    name = f"The model in {path}"
    model = saved_models.read(path, name)
    if not (getattr(model, "inputs", None) and len(model.inputs) == len(model.outputs) == 1):
        raise ValueError(f"{name} cannot be loaded (it has several inputs or outputs).")
    return model


def _classifies(model: keras.Model) -> bool:
    return len(model.output_shape) == 2


def _difference(model: keras.Model, network: keras.Model) -> str | None:
    """Returns how a model differs from a network that should be within it, in words, or None."""
    held = {layer.name: layer for layer in model.layers}
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer) or getattr(layer, "training_only", False):
            continue
        other = held.get(layer.name)
        if other is None:
            return f"has no layer {layer.name}"
        if type(other) is not type(layer):
            return f"has {type(other).__name__} as its {layer.name}, not {type(layer).__name__}"
        own, wanted = _settings(other), _settings(layer)
        for key in wanted:
            if own.get(key) != wanted[key]:
                return f"has the {key} {own.get(key)!r} in {layer.name}, not {wanted[key]!r}"
    return None


def _settings(layer: keras.Layer) -> dict[str, Any]:
    """Returns what a layer computes, but not how its variables began and how they change."""
    config = layer.get_config()
    if (schedule := getattr(layer, "schedule", None)) is not None:
        start = float(keras.ops.convert_to_numpy(schedule(0)))
        config["alpha"] = f"{type(schedule).__name__} from {start:g}"
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = config["dtype"]["config"]["name"]
    return {
        key: value
        for key, value in config.items()
        if not key.endswith(("_initializer", "_regularizer"))
    }


def _of_run(path: pathlib.Path, read: Callable[[pathlib.Path], Any]) -> Any:
    """Returns what `read` finds in the folder of the run that weights belong to, or None."""
    found = map(read, (path, *path.parents[:2]))
    return next((one for one in found if one is not None), None)


def _read_config(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    return files.read_object(path) if path.is_file() else None


def restore(model: keras.Model, path: pathlib.Path) -> str:
    """Loads weights into a model, and returns where they were found.

    Executes no code from the file. For a folder, loads the newest checkpoint, with averaged weights
    if the optimizer keeps averages.

    Args:
        model: A model that is built, and compiled as it was trained.
        path: Folder of an incomplete run, one of its checkpoints, or a `.weights.h5` file.

    Raises:
        ValueError: With one sentence, if there are no weights, or they belong to another network.
    """
    if path.is_dir():
        checkpoint = Store(path / "checkpoints").newest()
        if checkpoint is None:
            raise ValueError(f"{path} holds neither a model.keras nor a checkpoint.")
        _from_checkpoint(model, checkpoint)
        return f"{path}, after step {checkpoint.step:,}"
    if not path.is_file() or not path.name.endswith((".weights.h5", ".npz")):
        raise ValueError(
            f"{path} is not the folder of a run, nor a checkpoint, .keras or .weights.h5 file."
        )
    if path.suffix == ".npz":
        checkpoint = read(path)
        if checkpoint is None:
            raise ValueError(f"{path} is damaged, or not a checkpoint.")
        _from_checkpoint(model, checkpoint)
    else:
        _from_file(model, path)
    return str(path)


def _from_checkpoint(model, checkpoint):
    checkpoints.check(model, checkpoint)
    checkpoints.restore_variables(model, checkpoint)
    optimizer = model.optimizer
    optimizer.finalize_variable_values(model.trainable_variables)


def _from_file(model, path):
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The weights in {path} cannot be loaded ({type(error).__name__}: {reason})."
        ) from error
