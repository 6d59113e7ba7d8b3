"""A run from its command line to its result."""

import dataclasses
import math
import sys
import time
import types
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.training import command_line, config, devices
from keras_elu.training.progress import Progress, metrics_text
from keras_elu.training.run_folder import RunFolder


def main(recipe: types.ModuleType, arguments: Sequence[str] | None = None) -> None:
    """Does the run that a command line describes.

    What is wrong with the command line, the data or the folder is found before anything is
    written, and ends the process with one sentence and exit code 2.

    Args:
        recipe: A module of `keras_elu.recipes`.
        arguments: The command line. None: the process's own.
    """
    try:
        asked = command_line.parse(recipe, arguments)
        settings = config.resolve(recipe, asked)
        config.check(settings)
        strategy = devices.set_up(settings)
        folder = RunFolder(recipe, settings)
        if folder.finished:
            print(f"{folder.path} holds this run, finished; its numbers are in result.json.")
            return
        run = prepare(recipe, settings, strategy)
        folder.start()
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    own = config.own_dataset(recipe)
    if asked.dataset == "auto" and settings.dataset != own:
        rule = "*" * 100
        images = f"{sum(run.dataset.examples.values()):,} EMBEDDED DIGITS"
        print(f"{rule}\n{own} is not prepared here: THIS RUN TRAINS ON THE {images}.")
        print(f"{recipe.SOURCE}\n{rule}", flush=True)
    result = fit(run, folder)
    for split in ("training", "validation", "test"):
        print(f"{split:<10} {metrics_text(result[split])}")
    print(f"{result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s")
    print(f"Everything is in {folder.path}; to see the curves:")
    print(f"  {sys.executable} -m tensorboard.main --logdir {folder.path.parent}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run needs: it is built and checked, and nothing has been trained or written."""

    recipe: str
    settings: config.Config
    dataset: data.Dataset
    steps_per_epoch: int
    replicas: int
    model: keras.Model
    training: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset


def prepare(
    recipe: types.ModuleType, settings: config.Config, strategy: tf.distribute.Strategy
) -> Run:
    """Loads the data set and builds the model.

    Raises:
        ValueError: If the data set cannot be had, or does not fit the settings.
    """
    dataset = data.load(
        settings.dataset,
        data_dir=settings.data_dir,
        manual_dir=settings.manual_dir,
        validation_examples=settings.validation_examples,
    )
    replicas = strategy.num_replicas_in_sync
    training, validation, test = recipe.datasets(settings, dataset, replicas)
    steps_per_epoch = settings.steps_per_epoch or dataset.steps_per_epoch(settings.batch_size)
    with strategy.scope():
        model, arguments = recipe.build(settings, dataset, steps_per_epoch * settings.epochs)
        model.compile(
            **arguments,
            jit_compile=devices.jit_compile(settings, strategy),
            steps_per_execution=settings.steps_per_execution,
        )
    return Run(
        recipe=command_line.recipe_name(recipe),
        settings=settings,
        dataset=dataset,
        steps_per_epoch=steps_per_epoch,
        replicas=replicas,
        model=model,
        training=training,
        validation=validation,
        test=test,
    )


def fit(run: Run, folder: RunFolder) -> dict[str, Any]:
    """Trains, evaluates, fills the folder, and returns the result."""
    started = time.perf_counter()
    batch_size, epochs = run.settings.batch_size, run.settings.epochs
    print(
        f"{run.recipe} on {run.dataset.name}: {run.dataset.examples['train']:,} training images, "
        f"{run.model.count_params():,} parameters, replicas: {run.replicas}, folder: {folder.path}",
        flush=True,
    )
    progress = Progress(batch_size, run.steps_per_epoch, epochs)
    history = run.model.fit(
        run.training,
        steps_per_epoch=run.steps_per_epoch,
        epochs=epochs,
        validation_data=run.validation,
        shuffle=False,  # the pipeline does
        verbose=0,
        callbacks=[
            progress,  # first: it adds the speed to the logs
            keras.callbacks.CSVLogger(folder.history),
            keras.callbacks.TensorBoard(folder.tensorboard, histogram_freq=1),
            keras.callbacks.TerminateOnNaN(),
        ],
    ).history
    last = {key: values[-1] for key, values in history.items() if key != "images_per_second"}
    if not math.isfinite(last["loss"]):
        print("error: the loss is not finite any more: lower --learning_rate.", file=sys.stderr)
        sys.exit(1)
    result = {
        "recipe": run.recipe,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": epochs,
        "steps": run.steps_per_epoch * epochs,
        "training": {key: value for key, value in last.items() if not key.startswith("val_")},
        "validation": {key[4:]: value for key, value in last.items() if key.startswith("val_")},
        "test": run.model.evaluate(run.test, verbose=0, return_dict=True),
        "images_per_second": progress.images_per_second,
        "seconds": time.perf_counter() - started,
    }
    folder.finish(run.model, result)
    return result
