"""A search from its command line to the command that trains the best."""

import dataclasses
import json
import os
import pathlib
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import keras_tuner
import tensorflow as tf
import tyro

from keras_elu import data, files, training
from keras_elu.training import command_line, signals
from keras_elu.training.config import MAY_CHANGE, PLACES, recipe_name, resolve
from keras_elu.tuning import chief, hparams, oracles, outcomes, results, shares, workers
from keras_elu.tuning.progress import Progress

Space = Callable[[keras_tuner.HyperParameters, training.Config], training.Config]

_DESCRIPTION = """Searches schedules of the learning rate and of alpha, around those of the
recipe. The last flags, from --space on, are the search's own, all others the recipe's.

Over several machines that share a folder, give the same command to a chief, with
KERASTUNER_TUNER_ID=chief, and to each worker, with an ID of its own; to all with
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT, where the chief listens."""
_WATCH = 0.2  # seconds
_FIRST = {"lock", "trials", "unfinished-search.json"}  # of a search that is just beginning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a search can be told, besides what its trials have in common."""

    space: Literal["learning_rate", "alpha", "both"] = "both"
    """Which schedule is searched."""
    tuner: Literal["random", "bayesian", "hyperband"] = "random"
    """How trials are drawn. random, bayesian: the first is the recipe's default, and those that are
    worse than the median of the others are stopped, or not trained again. hyperband: many short
    ones, few long ones."""
    max_trials: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of trials. None: 20; of hyperband, as many as it has."""
    objective: str = "val_loss"
    """Metric of the held-out images, after the last epoch."""
    executions_per_trial: int = 5
    """Trainings of each trial, with seeds that follow one another, whose mean objective counts:
    what is good with one seed may diverge with the next."""
    workers: int = 1
    """Trials at a time, each with its share of the cores or the accelerators."""
    seed: int = training.setting(0, between=(0, 2**32 - 1))
    """Seed of the search, and of every trial's first training."""
    run_dir: Annotated[str | None, tyro.conf.arg(metavar="STR")] = None
    """Folder of the search. None: runs/tuning-RECIPE-DATASET-SPACE."""


def main(
    recipe: types.ModuleType,
    *,
    learning_rate: Space,
    alpha: Space,
    arguments: Sequence[str] | None = None,
) -> None:
    """Does the search that a command line describes, or goes on with it.

    With keras-tuner's `KERASTUNER_ORACLE_IP`, `KERASTUNER_ORACLE_PORT` and `KERASTUNER_TUNER_ID`
    set, the process is the chief, if its ID contains "chief", or a worker of the chief there; all
    see the same folder. The exit code is 0 if a trial is complete, 1 if none can be, 2 for a wrong
    command line, and 75 if the search was told to stop; a message is one sentence.

    Args:
        recipe: A module of `keras_elu.recipes`.
        learning_rate: The space of learning-rate schedules.
        alpha: The space of schedules of alpha.
        arguments: The command line. None: the process's own.
    """
    stop = signals.StopSignals()
    try:
        search = Search(recipe, {"learning_rate": learning_rate, "alpha": alpha}, arguments)
        search.start()
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    with stop.handled():
        try:
            best = search.run(stop)
        except chief.CannotRun as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
    if stop():
        print("Stopped and saved. The same command goes on from there.", file=sys.stderr)
        sys.exit(signals.STOPPED)
    if search.role == "worker":
        return
    if best is None:
        print(f"error: no trial is complete: {search.first_reason()}.", file=sys.stderr)
        sys.exit(1)
    print(f"Everything is in {search.folder}; to see the trials, and HParams:")
    print(f"  {sys.executable} -m tensorboard.main --logdir {search.folder / 'trials'}")
    print("To train the best:")
    print(f"  {results.command(recipe, search.folder / 'best.json')}", flush=True)


class Search:
    """A search, checked; nothing has been written.

    Raises:
        ValueError: With one sentence, if it cannot be done.
    """

    def __init__(
        self,
        recipe: types.ModuleType,
        spaces: dict[str, Space],
        arguments: Sequence[str] | None = None,
    ):
        self.recipe = recipe
        self.role = chief.role()
        asked = command_line.parse(_command(recipe), arguments)
        self._options = options = Options(**_fields(asked, Options))
        self._config = resolve(recipe, recipe.Config(**_fields(asked, recipe.Config)))
        config = self._config = dataclasses.replace(self._config, config=None)
        self._refuse_what_no_search_can_do()
        self._shares = shares.shares(0 if self.role == "chief" else options.workers)
        self._check_objective()
        self._space = [spaces[name] for name in spaces if options.space in (name, "both")]
        hp = self._hp = keras_tuner.HyperParameters()
        self._configure(hp)
        name = f"tuning-{recipe_name(recipe)}-{config.dataset}-{options.space}"
        self.folder = pathlib.Path(config.run_dir or pathlib.Path("runs", name))
        self._identity = self._describe(hp)
        with files.usable("--run_dir"):
            self._check_folder()
        self._direction = "max" if "accuracy" in options.objective else "min"
        self._oracle = oracles.make(
            options.tuner,
            hp,
            objective=options.objective,
            direction=self._direction,
            max_trials=options.max_trials,
            epochs=config.epochs,
            seed=options.seed,
            folder=self.folder,
        )

    def _refuse_what_no_search_can_do(self) -> None:
        config, options = self._config, self._options
        if config.validation_examples == 0:
            raise ValueError(
                "--validation_examples 0 validates on the test set, on which nothing may be "
                "chosen: hold out some of the training set."
            )
        if config.evaluate is not None:
            raise ValueError("--evaluate trains nothing: give it to the trainer instead.")
        if config.strategy == "multiworker":
            raise ValueError(
                "--strategy multiworker is for one training: a search has workers of its own, "
                "--workers."
            )
        if options.space != "learning_rate" and config.activation != "elu":
            raise ValueError(
                f"--space {options.space} has no meaning for --activation {config.activation}: "
                "only alpha of elu has a schedule."
            )

    def _check_objective(self) -> None:
        """Loads the data, so that no trial prepares it, and asks the model for its metrics."""
        config = self._config
        tf.config.set_visible_devices([], "GPU")  # which are the trials'
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            manual_dir=config.manual_dir,
            validation_examples=config.validation_examples,
        )
        steps = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
        _, arguments = self.recipe.build(config, dataset, steps * config.epochs)
        metrics = [m if isinstance(m, str) else m.name for m in arguments.get("metrics", [])]
        names = ["val_loss", *(f"val_{name}" for name in metrics)]
        if self._options.objective not in names:
            raise ValueError(
                f"--objective must be {' or '.join(names)}, not {self._options.objective!r}."
            )

    def _configure(self, hp: keras_tuner.HyperParameters) -> training.Config:
        """Returns the configuration of a trial."""
        config = self._config
        for space in self._space:
            config = space(hp, config)
        if "tuner/epochs" in hp.values:
            config = dataclasses.replace(config, epochs=hp.values["tuner/epochs"])
        return config

    def _flags(self, hp: keras_tuner.HyperParameters, execution: int) -> list[str]:
        """Returns the flags of one of a trial's runs."""
        config = self._configure(hp)
        config = dataclasses.replace(config, seed=config.seed + execution)
        return [
            f"--{field.name}={getattr(config, field.name)}"
            for field in dataclasses.fields(config)
            if field.name not in PLACES and getattr(config, field.name) != field.default
        ]

    def _describe(self, hp: keras_tuner.HyperParameters) -> dict:
        """Returns what must be the same when a search goes on."""
        left_out = {*PLACES, *MAY_CHANGE}
        config = dataclasses.asdict(self._config)
        kept = "space", "tuner", "objective", "executions_per_trial"
        options = {key: getattr(self._options, key) for key in kept}
        if self._options.tuner == "hyperband":
            options["max_trials"] = self._options.max_trials
        return {
            "recipe": recipe_name(self.recipe),
            **options,
            **{key: value for key, value in config.items() if key not in left_out},
            "hyperparameters": json.loads(json.dumps(hp.get_config()["space"])),
        }

    def _check_folder(self) -> None:
        files.check_writable(self.folder, "--run_dir")
        if not self.folder.is_dir() or {path.name for path in self.folder.iterdir()} <= _FIRST:
            return
        try:
            held = files.read_object(self.folder / "search.json")
        except ValueError as error:
            raise ValueError(
                f"--run_dir {self.folder} holds files, but not those of a search: name a new "
                "folder."
            ) from error
        for key in self._identity | held:
            if held.get(key) != self._identity.get(key):
                what = f"{held.get(key)!r} instead of {self._identity.get(key)!r}"
                what = "other ranges" if key == "hyperparameters" else f"another {key}, {what}"
                raise ValueError(
                    f"--run_dir {self.folder} holds a search with {what}: name a new folder."
                )

    def start(self) -> None:
        """Makes the folder, which one process has; workers find that of their chief.

        Raises:
            ValueError: With one sentence, if it cannot be written, or another search has it.
        """
        if self.role == "worker":
            return
        try:
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
            self._lock = files.lock(self.folder / "lock", f"--run_dir {self.folder}")
            files.write_json(self.folder / "search.json", self._identity)
            hparams.describe(self.folder / "trials", self._hp, self._options.objective)
        except OSError as error:
            raise ValueError(
                f"--run_dir {self.folder} cannot be written: {error.strerror}."
            ) from error

    def run(self, stop: Callable[[], bool]) -> str | None:
        """Runs the trials that are left; returns the name of the best, if one is complete.

        Raises:
            CannotRun: If no trial can be run.
        """
        failed = threading.Event()
        group = self._workers(lambda: stop() or failed.is_set())
        serve = self._serve() if self.role == "chief" else None
        progress = Progress(self, self._oracle) if self.role != "worker" else None
        for worker in group:
            worker.start()
        while any(worker.is_alive() for worker in group) or (serve and not self._oracle.finished()):
            time.sleep(_WATCH)
            if progress:
                progress.update()
            if any(worker.error for worker in group):
                failed.set()
            if serve and stop():
                break
            if serve and not serve.is_alive():
                raise chief.CannotRun(f"The chief cannot listen at {chief.address()}.")
        for error in (worker.error for worker in group):
            if error is not None:
                raise error
        if progress is None:
            return None
        progress.update()
        progress.close()
        return results.write(
            self.folder,
            self.recipe,
            self._options.objective,
            self._direction,
            self._config.epochs,
        )

    def _workers(self, stop: Callable[[], bool]) -> list[workers.Worker]:
        oracle, prefix = self._oracle, "worker"
        if self.role == "worker":
            oracle = chief.Chief(oracle, self.folder)
            prefix = os.environ["KERASTUNER_TUNER_ID"]
        return [
            workers.Worker(
                oracle,
                f"{prefix}-{i}",
                share,
                recipe=self.recipe.__name__,
                flags=self._flags,
                executions=self._options.executions_per_trial,
                objective=self._options.objective,
                trials=self.folder / "trials",
                stop=stop,
            )
            for i, share in enumerate(self._shares)
        ]

    def _serve(self) -> threading.Thread:
        """Starts keras-tuner's server, which answers the workers until this process ends."""
        tuner = chief.connected(self._oracle, self.folder)
        thread = threading.Thread(target=tuner.search, daemon=True)
        thread.start()
        print(f"chief: waiting for workers at {chief.address()}, folder {self.folder}", flush=True)
        return thread

    def first_reason(self) -> str:
        """Returns why trials failed."""
        found = outcomes.read_all(self.folder / "trials")
        return next(
            (f"trial {n}: {o.reason}".rstrip(".") for n, o in found.items() if o.reason), ""
        )

    def line(self, trial: str, outcome: outcomes.Outcome) -> str:
        """Returns a trial in one line."""
        values = outcomes.config(self.folder / "trials", trial)
        what = results.summary(values, self.recipe) if values else "?"
        name = self._options.objective
        value = outcome.reason if outcome.value is None else f"{name} {outcome.value:.4g}"
        return f"trial {trial} {outcome.status:<8} {value}  {what}"

    def best(self) -> tuple[str, outcomes.Outcome] | tuple[None, None]:
        """Returns the best trial so far."""
        return outcomes.best(self._oracle.ended, self._direction, self._config.epochs)

    @property
    def total(self) -> int:
        """Number of trials."""
        trials, epochs = self._options.max_trials, self._config.epochs
        if self._options.tuner != "hyperband":
            return trials or oracles.TRIALS
        sweep = oracles.hyperband_trials(epochs)
        return (trials or sweep) // sweep * sweep


def _command(recipe: types.ModuleType) -> types.SimpleNamespace:
    """Returns what stands for the recipe where the command line is read."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("Config", (Options, recipe.Config), {"__doc__": Options.__doc__})
    )
    description = f"{_DESCRIPTION}\n\nThe recipe: {recipe.__doc__}"
    return types.SimpleNamespace(**vars(recipe) | {"Config": cls, "__doc__": description})


def _fields(asked: training.Config, cls: type) -> dict:
    return {field.name: getattr(asked, field.name) for field in dataclasses.fields(cls)}
