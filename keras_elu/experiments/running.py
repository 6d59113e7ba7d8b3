"""Trains the runs of an experiment one after the other."""

import gc
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tqdm

from keras_elu import diagnostics, files, training
from keras_elu.experiments.experiment import Experiment, Planned
from keras_elu.training import devices

DIVERGED = "diverged.json"


def is_done(run: Planned) -> bool:
    """Whether a run is complete or has diverged."""
    folder = pathlib.Path(run.config.run_dir)
    return any((folder / name).exists() for name in ("result.json", DIVERGED))


def train(
    runs: Sequence[Planned],
    experiment: Experiment,
    done: Callable[[Planned], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains what is missing, or resumes it.

    Args:
        runs: The runs.
        experiment: The experiment that they belong to.
        done: Called after each run.
        stop: Called after each execution; if it returns True, the run saves and stops.

    Raises:
        Stopped: After `stop`, once the run is saved.
        ValueError: With one sentence, if a run cannot be trained.
        OSError: If the disk refuses a result.
    """
    missing = [run for run in runs if not is_done(run)]
    with _Overall(missing) as overall:
        for number, run in enumerate(missing, start=len(runs) - len(missing) + 1):
            _train(run, f"run {number} of {len(runs)}", experiment, overall, stop)
            done(run)


def _train(
    planned: Planned,
    title: str,
    experiment: Experiment,
    overall: "_Overall",
    stop: Callable[[], bool],
) -> None:
    strategy = devices.set_up(planned.config)
    folder = training.RunFolder(planned.recipe, planned.config)
    trial = None if experiment.tested else planned.name  # which leaves the test images alone
    run = training.prepare_run(planned.recipe, planned.config, strategy, trial)
    callbacks = training.RunCallbacks(run, folder, stop)
    more = [overall]
    if observed := experiment.observed:
        batches = run.training(0).take(-(-observed // planned.config.batch_size))
        images = np.concatenate([x.numpy() for x, _ in batches])[:observed]
        more.append(diagnostics.Diagnostics(images, record=folder.path / "medians"))
    callbacks.all[1:1] = more  # after the progress, and before the history
    folder.start(run.dataset.class_names, run.dataset.examples)
    overall.start(f"{title}, {planned.name}", planned.config.epochs - callbacks.checkpoints.epoch)
    try:
        training.fit(run, callbacks)
    except training.NonFiniteLoss as error:
        print(f"{error} The run has diverged.", file=sys.stderr, flush=True)
        files.write_json(folder.path / DIVERGED, {"step": error.step})
    # Otherwise the memory of the process would grow from run to run.
    del run, callbacks, more
    keras.backend.clear_session()
    gc.collect()


class _Overall(keras.callbacks.Callback):
    """Shows how much of an experiment is done, and the time left for all of it.

    Args:
        runs: The runs that are missing.
    """

    def __init__(self, runs: Sequence[Planned]):
        super().__init__()
        self._later = [run.config.epochs for run in runs]  # epochs of the runs not yet started
        self._of_run, self._trained = 0, 0
        self._started = time.perf_counter()

    def __enter__(self):
        self._bar = tqdm.tqdm(
            total=sum(self._later),
            desc="experiment",
            bar_format="{desc} {percentage:3.0f}% |{bar:20}| {postfix}",
            disable=not sys.stderr.isatty(),
        )
        return self

    def __exit__(self, *exception):
        self._bar.close()

    def start(self, title: str, epochs: int) -> None:
        """Prints the title of the next run, which has so many epochs left."""
        self._later.pop(0)
        self._of_run = epochs
        print(f"{title}: {self._time()} left for the experiment", flush=True)
        self._show()

    def on_epoch_end(self, epoch, logs=None):
        self._of_run -= 1
        self._trained += 1
        self._show()

    def _time(self) -> str:
        if not self._trained:
            return "?"
        an_epoch = (time.perf_counter() - self._started) / self._trained
        return tqdm.tqdm.format_interval(an_epoch * self._left)

    @property
    def _left(self) -> int:
        return self._of_run + sum(self._later)

    def _show(self) -> None:
        self._bar.n = self._bar.total - self._left if not self._bar.disable else 0
        self._bar.set_postfix_str(f"{self._time()} left")
