"""A run from its command line to its result."""

import contextlib
import dataclasses
import pathlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.training import cluster, command_line, config, devices, evaluation
from keras_elu.training.checkpoints import Checkpoints, Stopped
from keras_elu.training.distributed import DistributedModel
from keras_elu.training.execution import NonFiniteLoss
from keras_elu.training.history import History
from keras_elu.training.monitoring import TensorBoard
from keras_elu.training.profiling import Profile
from keras_elu.training.progress import Progress, metrics_text
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
        settings = config.resolve(recipe, asked)
        strategy = devices.set_up(settings)
        chief = devices.is_chief(settings)
        if settings.evaluate is None:
            folder = RunFolder(recipe, settings, chief)
            if folder.finished:
                if chief:
                    print(f"{folder.path} holds this run, finished; see its result.json.")
                return
        run = prepare(recipe, settings, strategy, trial)
        if settings.evaluate is None:
            records = Records(run, folder, stop)
            folder.start()
        else:
            run.model.build_for(run.training(0).element_spec)
            found = evaluation.restore(run.model, pathlib.Path(settings.evaluate))
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    own = config.own_dataset(recipe)
    if chief and asked.dataset == "auto" and settings.dataset != own:
        rule = "*" * 100
        images = f"{sum(run.dataset.examples.values()):,} EMBEDDED DIGITS"
        print(f"{rule}\n{own} is not prepared here: THIS RUN TRAINS ON THE {images}.")
        print(f"To train on it: {data.SOURCES[own]}\n{rule}", flush=True)
    with stop.handled(), _failures_explained(run, chief):
        if settings.evaluate is not None:
            evaluate(run, found, chief)
            return
        result = fit(run, records)
    if not chief:
        return
    for split in ("training", "validation", "test"):
        if result[split]:
            print(f"{split:<10} {metrics_text(result[split])}")
    print(f"{result['seconds']:.0f} s, {result['images_per_second']:,.0f} images/s")
    print(f"Everything is in {folder.path}; to see the curves:")
    print(f"  {sys.executable} -m tensorboard.main --logdir {folder.path.parent}")


@contextlib.contextmanager
def _failures_explained(run: "Run", chief: bool) -> Iterator[None]:
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
        several = run.settings.strategy == "multiworker"
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


def evaluate(run: "Run", found: str, chief: bool) -> None:
    """Evaluates the model on the validation and test images, and prints what came of it.

    Args:
        run: A run whose model has the weights to evaluate.
        found: Where these were.
        chief: Whether this process prints.
    """
    if chief:
        print(f"{run.recipe} on {run.dataset.name}: the weights of {found}", flush=True)
    for split, pipeline in {"validation": run.validation, "test": run.test}.items():
        metrics = run.model.evaluate(pipeline, verbose=0, return_dict=True)
        if chief:
            print(f"{split:<10} {metrics_text(metrics)}", flush=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run needs: it is built and checked, and nothing has been trained or written.

    `training` takes the number of the first batch; `trial` is None outside a search.
    """

    recipe: str
    trial: str | None
    settings: config.Config
    dataset: data.Dataset
    steps_per_epoch: int
    replicas: int
    model: keras.Model
    training: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    test: tf.data.Dataset


def prepare(
    recipe: types.ModuleType,
    settings: config.Config,
    strategy: tf.distribute.Strategy,
    trial: str | None = None,
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
    steps_per_epoch = settings.steps_per_epoch or dataset.steps_per_epoch(settings.batch_size)
    _, validation, test = recipe.datasets(settings, dataset)
    with strategy.scope(), _explained():
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
        trial=trial,
        settings=settings,
        dataset=dataset,
        steps_per_epoch=steps_per_epoch,
        replicas=strategy.num_replicas_in_sync,
        model=model,
        training=lambda start: recipe.datasets(settings, dataset, start)[0],
        validation=validation,
        test=test,
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what TensorFlow says of a model that cannot be built into one sentence."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.partition("\n")[0].partition(" [Op:")[0].rstrip(".")
        raise ValueError(
            f"The model cannot be built ({type(error).__name__}: {reason}): make it smaller."
        ) from None


class Records:
    """The callbacks of a run: what it shows, what it writes, and from where it goes on.

    Args:
        run: The run.
        folder: Its folder.
        stop: Asked after each execution whether to save and stop.

    Raises:
        ValueError: With one sentence, if the folder's checkpoint is not this run's.
    """

    def __init__(self, run: Run, folder: RunFolder, stop: Callable[[], bool] = lambda: False):
        settings = run.settings
        self.folder = folder
        self.progress = Progress(settings.batch_size, run.steps_per_epoch, settings.epochs)
        self.history = History(folder.history)
        self.tensorboard = TensorBoard(
            folder.tensorboard,
            run.steps_per_epoch,
            config=folder.config,
            trial=run.trial,
            batch=lambda: next(iter(run.training(0).take(1))),
            progress=self.progress,
            histograms_every=settings.histograms_every,
        )
        named = {
            "progress": self.progress,
            "history": self.history,
            "tensorboard": self.tensorboard,
        }
        profiling = []
        if settings.profile is not None:
            profiling = [Profile(folder.tensorboard, settings.profile, run.steps_per_epoch)]
        if not folder.chief:
            named, profiling = {}, []
        self.checkpoints = Checkpoints(
            folder.checkpoints,
            every=settings.checkpoint_every,
            keep=settings.checkpoints_kept,
            callbacks=named,
            stop=stop,
            flush=self.tensorboard.flush,
        )
        self.checkpoints.check(run.model)
        optimizer = getattr(run.model.optimizer, "inner_optimizer", run.model.optimizer)
        averages = [evaluation.Averages()] if optimizer.use_ema else []
        # Progress first, for it adds the speed to the logs; last what saves the others' state.
        self.all = [*named.values(), *profiling, *averages, self.checkpoints]


def fit(run: Run, records: Records) -> dict[str, Any]:
    """Trains, evaluates, fills the folder, and returns the result.

    Where an earlier attempt was stopped, the run goes on from its last checkpoint.

    Raises:
        Stopped: If it was told to stop; it has saved.
        NonFiniteLoss: If the loss is not finite any more.
        OSError: If the disk refuses the result, or all checkpoints for long.
    """
    folder, checkpoints = records.folder, records.checkpoints
    if folder.chief:
        print(
            f"{run.recipe} on {run.dataset.name}: {run.dataset.examples['train']:,} training "
            f"images, {run.model.count_params():,} parameters, replicas: {run.replicas}, folder: "
            f"{folder.path}",
            flush=True,
        )
        if checkpoints.start:
            print(f"going on after {_position(run, checkpoints)}", flush=True)
        if checkpoints.replicas not in (None, run.replicas):
            print(
                f"on {run.replicas} replicas instead of {checkpoints.replicas}: the run goes on "
                "alike, but not equal in every bit",
                flush=True,
            )
    _train(run, records)
    test = {}
    if run.trial is None:  # nothing may be chosen by the test set
        test = run.model.evaluate(run.test, verbose=0, return_dict=True, callbacks=[checkpoints])
    last = records.history.last if folder.chief else {}
    result = {
        "recipe": run.recipe,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": run.settings.epochs,
        "steps": run.steps_per_epoch * run.settings.epochs,
        "training": {key: value for key, value in last.items() if not key.startswith("val_")},
        "validation": {key[4:]: value for key, value in last.items() if key.startswith("val_")},
        "test": test,
        "replicas": run.replicas,
        "devices": devices.count(run.model.distribute_strategy),
        "images_per_second": records.progress.images_per_second,
        "seconds": records.progress.elapsed,
    }
    checkpoints.close()
    if folder.chief:
        records.history.write()
        records.tensorboard.finish(test, run.test)
        folder.finish(run.model, result)
        checkpoints.clear()
    return result


def _train(run: Run, records: Records) -> None:
    """Trains to the end, after a loss that is not finite as often again as it may."""
    checkpoints = records.checkpoints
    for left in reversed(range(run.settings.recover + 1)):
        if left:
            checkpoints.save_start()
        try:
            run.model.fit(
                run.training(checkpoints.start),
                steps_per_epoch=run.steps_per_epoch,
                initial_epoch=checkpoints.epoch,
                initial_step=checkpoints.step,
                epochs=run.settings.epochs,
                validation_data=run.validation,
                shuffle=False,  # the pipeline does
                verbose=0,
                callbacks=records.all,
            )
            return
        except NonFiniteLoss as error:
            if not left:
                raise
            checkpoints.go_back(error.step)
            if not records.folder.chief:
                continue
            print(
                f"{error} Going back to {_position(run, checkpoints)}; the batches up to that of "
                f"this step are left out, {left - 1} attempts are left.",
                file=sys.stderr,
                flush=True,
            )


def _position(run: Run, checkpoints: Checkpoints) -> str:
    return f"step {checkpoints.step:,} of {run.steps_per_epoch:,} in epoch {checkpoints.epoch + 1}"
