"""A run from its command line to its exit code."""

import contextlib
import pathlib
import sys
import types
from collections.abc import Iterator, Sequence

import tensorflow as tf

from keras_elu import data
from keras_elu.distributed import cluster
from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.monitoring.progress import metrics_text
from keras_elu.training import callbacks, command_line, devices, evaluation, fitting
from keras_elu.training.checkpoints import Stopped
from keras_elu.training.config import own_dataset, resolve
from keras_elu.training.run import Run, prepare_run
from keras_elu.training.run_folder import RunFolder
from keras_elu.training.signals import STOPPED, StopSignals


def main(
    recipe: types.ModuleType, arguments: Sequence[str] | None = None, *, trial: str | None = None
) -> None:
    """Does the run that a command line describes, or goes on with it.

    What is wrong with the command line, the data or the folder is found before anything is
    written. The exit code is 0 for a run that is complete, 1 for one that failed, 2 for a wrong
    command line, and 75 for one that was told to stop and has saved; a message is one sentence.

    Args:
        recipe: A module of `keras_elu.recipes`.
        arguments: The command line. None: the process's own.
        trial: Name of the trial of a search of which the run is a training; it does not see the
            test set then.
    """
    stop = StopSignals()
    try:
        asked = command_line.parse(recipe, arguments)
        config = resolve(recipe, asked)
        strategy = devices.set_up(config)
        chief = devices.is_chief(config)
        if config.evaluate is None:
            folder = RunFolder(recipe, config, chief)
            if folder.finished:
                if chief:
                    print(f"{folder.path} holds this run, finished; see its result.json.")
                return
        run = prepare_run(recipe, config, strategy, trial)
        if config.evaluate is None:
            records = callbacks.Records(run, folder, stop)
            folder.start()
        else:
            run.model.build_for(run.training(0).element_spec)
            found = evaluation.restore(run.model, pathlib.Path(config.evaluate))
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    own = own_dataset(recipe)
    if chief and asked.dataset == "auto" and config.dataset != own:
        rule = "*" * 100
        images = f"{sum(run.dataset.examples.values()):,} EMBEDDED DIGITS"
        print(f"{rule}\n{own} is not prepared here: THIS RUN TRAINS ON THE {images}.")
        print(f"To train on it: {data.INSTRUCTIONS[own]}\n{rule}", flush=True)
    with stop.handled(), _failures_explained(run, chief):
        if config.evaluate is not None:
            fitting.evaluate(run, found, chief)
            return
        result = fitting.fit(run, records)
    if not chief:
        return
    for split in ("training", "validation", "test"):
        if result[split]:
            print(f"{split:<10} {metrics_text(result[split])}")
    print(f"{result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s")
    print(f"Everything is in {folder.path}; to see the curves:")
    print(f"  {sys.executable} -m tensorboard.main --logdir {folder.path.parent}")


@contextlib.contextmanager
def _failures_explained(run: Run, chief: bool) -> Iterator[None]:
    """Ends the process with one sentence, and the exit code, for what a run may end with."""
    try:
        yield
    except Stopped as stopped:
        if chief:
            print(f"{stopped} The same command goes on from there.", file=sys.stderr)
        sys.exit(STOPPED)
    except NonFiniteLoss as error:
        reason = f"{error} Lower --learning_rate."
    except OSError as error:
        reason = str(error)
    except tf.errors.OpError as error:
        several = run.config.strategy == "multiworker"
        if run.dataset.failure:
            reason = run.dataset.failure
        elif several and (peer := cluster.absent(cluster.read(), error.message)):
            reason = (
                f"{peer} no longer answers: give all workers the same command again, to go on from "
                "the last checkpoint."
            )
        else:
            raise
    else:
        return
    print("error:", reason, file=sys.stderr)
    sys.exit(1)
