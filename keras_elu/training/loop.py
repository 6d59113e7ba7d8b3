"""A run from its command line to its result."""

import dataclasses
import sys
import time
import types
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.training import command_line, config, devices
from keras_elu.training.checkpoint import Checkpoint
from keras_elu.training.distributed import DistributedModel
from keras_elu.training.execution import NonFiniteLoss
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
        chief = devices.is_chief(settings)
        folder = RunFolder(recipe, settings, chief)
        if folder.finished:
            if chief:
                print(f"{folder.path} holds this run, finished; its numbers are in result.json.")
            return
        run = prepare(recipe, settings, strategy, Checkpoint(folder).epochs)
        folder.start(run.epochs_done)
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    own = config.own_dataset(recipe)
    if chief and asked.dataset == "auto" and settings.dataset != own:
        rule = "*" * 100
        images = f"{sum(run.dataset.examples.values()):,} EMBEDDED DIGITS"
        print(f"{rule}\n{own} is not prepared here: THIS RUN TRAINS ON THE {images}.")
        print(f"{recipe.SOURCE}\n{rule}", flush=True)
    try:
        result = fit(run, folder)
    except NonFiniteLoss as error:
        print(f"error: {error} Lower --learning_rate.", file=sys.stderr)
        sys.exit(1)
    if not chief:
        return
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
    epochs_done: int
    replicas: int
    model: keras.Model
    training: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset


def prepare(
    recipe: types.ModuleType,
    settings: config.Config,
    strategy: tf.distribute.Strategy,
    epochs_done: int = 0,
) -> Run:
    """Loads the data set, from the first epoch that is not done, and builds the model.

    Raises:
        ValueError: If the data set cannot be had, or does not fit the settings.
    """
    dataset = data.load(
        settings.dataset,
        data_dir=settings.data_dir,
        manual_dir=settings.manual_dir,
        validation_examples=settings.validation_examples,
    )
    steps_per_epoch = settings.steps_per_epoch or dataset.steps_per_epoch(settings.batch_size)
    training, validation, test = recipe.datasets(settings, dataset, epochs_done * steps_per_epoch)
    with strategy.scope():
        plain, arguments = recipe.build(settings, dataset, steps_per_epoch * settings.epochs)
        model = DistributedModel(plain.inputs, plain.outputs, name=plain.name)
        model.compile(
            **arguments,
            jit_compile={"auto": "auto", "on": True, "off": False}[settings.jit_compile],
            micro_batches=settings.micro_batches,
            steps_per_execution=settings.steps_per_execution,
        )
    return Run(
        recipe=command_line.recipe_name(recipe),
        settings=settings,
        dataset=dataset,
        steps_per_epoch=steps_per_epoch,
        epochs_done=epochs_done,
        replicas=strategy.num_replicas_in_sync,
        model=model,
        training=training,
        validation=validation,
        test=test,
    )


def fit(run: Run, folder: RunFolder) -> dict[str, Any]:
    """Trains, evaluates, fills the folder, and returns the result.

    Where an earlier attempt was killed, the run goes on after the last epoch that it finished.

    Raises:
        NonFiniteLoss: If the loss is not finite any more.
    """
    started = time.perf_counter()
    settings = run.settings
    checkpoint = Checkpoint(folder)
    checkpoint.restore(run.model)
    progress = Progress(settings.batch_size, run.steps_per_epoch, settings.epochs)
    callbacks = [checkpoint]
    if folder.chief:
        print(
            f"{run.recipe} on {run.dataset.name}: {run.dataset.examples['train']:,} training "
            f"images, {run.model.count_params():,} parameters, replicas: {run.replicas}, folder: "
            f"{folder.path}",
            flush=True,
        )
        if run.epochs_done:
            print(f"going on after epoch {run.epochs_done}", flush=True)
        callbacks = [
            progress,  # first: it adds the speed to the logs
            keras.callbacks.CSVLogger(folder.history, append=run.epochs_done > 0),
            keras.callbacks.TensorBoard(folder.tensorboard, histogram_freq=1),
            checkpoint,  # last: what it says is done has been written
        ]
    run.model.fit(
        run.training,
        steps_per_epoch=run.steps_per_epoch,
        initial_epoch=run.epochs_done,
        epochs=settings.epochs,
        validation_data=run.validation,
        shuffle=False,  # the pipeline does
        verbose=0,
        callbacks=callbacks,
    )
    test = run.model.evaluate(run.test, verbose=0, return_dict=True)
    last = folder.last_epoch() if folder.chief else {}
    result = {
        "recipe": run.recipe,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": settings.epochs,
        "steps": run.steps_per_epoch * settings.epochs,
        "training": {key: value for key, value in last.items() if not key.startswith("val_")},
        "validation": {key[4:]: value for key, value in last.items() if key.startswith("val_")},
        "test": test,
        "images_per_second": progress.images_per_second,
        "seconds": time.perf_counter() - started,
    }
    folder.finish(run.model, result)
    return result
