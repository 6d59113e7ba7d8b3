"""The callbacks of a run."""

from collections.abc import Callable

from keras_elu.monitoring.history import History
from keras_elu.monitoring.profiling import Profile
from keras_elu.monitoring.progress import Progress
from keras_elu.monitoring.tensorboard import TensorBoard
from keras_elu.training import best, evaluation
from keras_elu.training.checkpoints import Checkpoints
from keras_elu.training.config import MAY_CHANGE
from keras_elu.training.run import Run
from keras_elu.training.run_folder import RunFolder


class RunCallbacks:
    """The callbacks of a run: progress, history, TensorBoard, profile and checkpoints.

    Args:
        run: The run.
        folder: Its folder.
        stop: Called after each execution; if it returns True, the run saves and stops.

    Attributes:
        best: The callback for `--keep_best`, or None.
        all: The callbacks in the order in which `fit` needs them.

    Raises:
        ValueError: With one sentence, if the checkpoint in the folder does not fit the run.
    """

    def __init__(self, run: Run, folder: RunFolder, stop: Callable[[], bool] = lambda: False):
        config = run.config
        self.folder = folder
        self.progress = Progress(config.batch_size, run.steps_per_epoch, config.epochs)
        self.history = History(folder.history)
        self.tensorboard = TensorBoard(
            folder.tensorboard,
            run.steps_per_epoch,
            config=folder.config,
            hyperparameters={
                key: value for key, value in folder.config.items() if key not in MAY_CHANGE
            },
            trial=run.trial,
            batch=lambda: next(iter(run.training(0).take(1))),
            progress=self.progress,
            histograms_every=config.histograms_every,
        )
        named = {
            "progress": self.progress,
            "history": self.history,
            "tensorboard": self.tensorboard,
        }
        profiling = []
        if config.profile is not None:
            profiling = [
                Profile(folder.tensorboard, config.profile, run.steps_per_epoch, config.epochs)
            ]
        if not folder.chief:
            named, profiling = {}, []
        self.best = best.of_run(run)
        if self.best is not None:
            named["best"] = self.best
        self.checkpoints = Checkpoints(
            folder.checkpoints,
            every=config.checkpoint_every,
            keep=config.checkpoints_kept,
            callbacks=named,
            stop=stop,
            flush=self.tensorboard.flush,
        )
        self.checkpoints.check(run.model)
        optimizer = getattr(run.model.optimizer, "inner_optimizer", run.model.optimizer)
        averages = [evaluation.Averages()] if optimizer.use_ema else []
        # Progress comes first: it adds the speed to the logs. Checkpoints come last: they save the
        # state of the others.
        self.all = [*named.values(), *profiling, *averages, self.checkpoints]
