"""A trainer, from its command line to its exit code."""

import contextlib
import pathlib
import signal
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_elu import commands, data
from keras_elu.distributed import cluster
from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.monitoring.progress import metrics_text
from keras_elu.training import (
    command_line,
    devices,
    evaluation,
    extension,
    fitting,
    initial_weights,
)
from keras_elu.training.callbacks import RunCallbacks
from keras_elu.training.checkpoints import Stopped
from keras_elu.training.config import Config, default_dataset, resolve
from keras_elu.training.run import Run, prepare_run
from keras_elu.training.run_folder import RunFolder
from keras_elu.training.signals import StopSignals


def main(
    recipe: types.ModuleType, arguments: Sequence[str] | None = None, *, trial: str | None = None
) -> None:
    """Trains, resumes or evaluates the run that a command line describes.

    Errors in the command line, the data set or the folder are found before anything is written.
    The exit code is 0 for a complete run, 1 for a failed one, 2 for a wrong command line, 75 for a
    run that a signal stopped after it was saved, and 130 for Ctrl-C while there is nothing to save.
    Every error message is one sentence.

    Args:
        recipe: A module of `keras_elu.recipes`.
        arguments: The command line. None: the process's own.
        trial: Name of the search trial that the run belongs to. Such a run leaves the test set
            alone.
    """
    try:
        with commands.checking_arguments():
            parsed = command_line.parse(recipe, arguments)
            config = resolve(recipe, parsed)
            strategy = devices.set_up(config)
        wanted = default_dataset(recipe) if parsed.dataset == "auto" else config.dataset
        if config.evaluate is None:
            _train(recipe, config, strategy, wanted, trial)
        else:
            _evaluate(recipe, config, strategy, wanted, parsed)
    except KeyboardInterrupt:  # while there is nothing to save
        sys.exit(128 + signal.SIGINT)


def _train(
    recipe: types.ModuleType,
    config: Config,
    strategy: tf.distribute.Strategy,
    wanted: str,
    trial: str | None,
) -> None:
    chief, stop = devices.is_chief(config), StopSignals()
    with commands.checking_arguments():
        config, longer = extension.plan(config)
        folder = RunFolder(recipe, config, chief, extension.may_change(longer))
        if folder.complete and longer is None:
            if chief:
                print(f"{folder.path} holds this run, already complete: see its result.json.")
            return
        run = prepare_run(recipe, config, strategy, trial)
        callbacks = RunCallbacks(run, folder, stop)
        if longer is not None:
            longer.check(run, callbacks.checkpoints.start)
        taken = None
        if config.initial_weights is not None and not callbacks.checkpoints.start:
            taken = initial_weights.take(run, getattr(recipe, "pretrained", None))
        folder.start(
            run.dataset.class_names,
            run.dataset.examples,
            lambda: longer and longer.move_results(),
        )
    if chief:
        _warn_of_digits(run, wanted)
        if taken is not None:
            print(taken, flush=True)
        if longer is not None:
            print(longer.describe(run, callbacks.checkpoints.epoch), flush=True)
    with stop.handled(), _failures_explained(run, chief):
        result = fitting.fit(run, callbacks)
    if chief:
        _print_result(result, folder.path)


def _evaluate(
    recipe: types.ModuleType,
    config: Config,
    strategy: tf.distribute.Strategy,
    wanted: str,
    given: Config,
) -> None:
    chief = devices.is_chief(config)
    with commands.checking_arguments():
        run, source = evaluation.prepare(recipe, config, strategy, given)
    if chief:
        _warn_of_digits(run, wanted)
    with _failures_explained(run, chief):
        fitting.evaluate(run, source, chief)


def _warn_of_digits(run: Run, wanted: str) -> None:
    """Says so if the embedded digits take the place of the data set that is wanted."""
    if run.config.dataset == wanted:
        return
    rule = "*" * 100
    images = f"{sum(run.dataset.examples.values()):,} EMBEDDED DIGITS"
    print(f"{rule}\n{wanted} is not prepared here: THIS RUN USES THE {images} INSTEAD.")
    print(f"To use {wanted}: {data.INSTRUCTIONS[wanted]}\n{rule}", flush=True)


def _print_result(result: dict[str, Any], folder: pathlib.Path) -> None:
    for split in ("training", "validation", "test"):
        if result[split]:
            print(f"{split:<10} {metrics_text(result[split])}")
    if best := result.get("best"):
        print(f"best.keras is the model of epoch {best['epoch']}, the best by {best['metric']}:")
        for split in ("validation", "test"):
            if best[split]:
                print(f"{split:<10} {metrics_text(best[split])}")
    print(f"{result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s")
    print(f"The run is in {folder}. To see its curves:")
    print(f"  {sys.executable} -m tensorboard.main --logdir {folder.parent}")


@contextlib.contextmanager
def _failures_explained(run: Run, chief: bool) -> Iterator[None]:
    """Ends the process with one sentence and its exit code if the block raises a known error."""
    try:
        yield
    except Stopped as stopped:
        if chief:
            print(f"{stopped} Rerun the same command to resume.", file=sys.stderr)
        sys.exit(commands.RESUMABLE)
    except NonFiniteLoss as error:
        sys.exit(commands.failure(f"{error} Lower --learning_rate."))
    except OSError as error:
        sys.exit(commands.failure(error))
    except tf.errors.OpError as error:
        if run.dataset.failure:
            sys.exit(commands.failure(run.dataset.failure))
        if run.config.strategy == "multiworker" and (
            peer := cluster.absent(cluster.read(), error.message)
        ):
            reason = f"{peer} no longer answers: rerun the same command on all workers to resume."
            sys.exit(commands.failure(reason))
        raise
