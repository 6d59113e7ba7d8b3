"""A search: its checks, its folder, and its trials."""

import dataclasses
import json
import os
import pathlib
import threading
import time
import types
from collections.abc import Callable

import keras_tuner
import tensorflow as tf

from keras_elu import files, training
from keras_elu.training.config import MAY_CHANGE, PLACES, recipe_name, resolve
from keras_elu.training.run import load_dataset
from keras_elu.tuning import (
    hparams,
    machines,
    oracles,
    outcomes,
    results,
    runners,
    shares,
    tuner_internals,
)
from keras_elu.tuning.config import SearchConfig
from keras_elu.tuning.progress import Progress
from keras_elu.tuning.spaces import Space

_WATCH = 0.2  # seconds
_FIRST = {"lock", "trials", "unfinished-search.json"}  # files of a search that has just started


class Search:
    """A search whose flags are valid; it has written nothing yet.

    Args:
        recipe: A module of `keras_elu.recipes`.
        spaces: The spaces by their names.
        config: The configuration that the trials have in common.
        search_config: The configuration of the search.

    Attributes:
        role: "alone", "chief" or "worker".
        folder: The folder of the search.

    Raises:
        ValueError: With one sentence, if the search is impossible.
    """

    def __init__(
        self,
        recipe: types.ModuleType,
        spaces: dict[str, Space],
        config: training.Config,
        search_config: SearchConfig,
    ):
        self.recipe = recipe
        self.role = machines.role()
        self._search_config = search_config
        config = self._config = dataclasses.replace(resolve(recipe, config), config=None)
        self._check_flags()
        at_a_time = 0 if self.role == "chief" else search_config.parallel_trials
        self._shares = shares.shares(at_a_time)
        self._check_objective()
        self._spaces = [spaces[name] for name in spaces if search_config.space in (name, "both")]
        hp = self._hp = keras_tuner.HyperParameters()
        self._configure(hp)
        name = f"tuning-{recipe_name(recipe)}-{config.dataset}-{search_config.space}"
        self.folder = pathlib.Path(config.run_dir or pathlib.Path("runs", name))
        self._identity = self._describe(hp)
        with files.usable("--run_dir"):
            self._check_folder()
        self._direction = "max" if "accuracy" in search_config.objective else "min"
        self._oracle = oracles.make(
            search_config.tuner,
            hp,
            objective=search_config.objective,
            direction=self._direction,
            max_trials=search_config.max_trials,
            epochs=config.epochs,
            seed=search_config.seed,
            folder=self.folder,
        )

    def _check_flags(self) -> None:
        config, space = self._config, self._search_config.space
        if config.validation_examples == 0:
            raise ValueError(
                "--validation_examples 0 validates on the test set, which must not choose a "
                "schedule: hold out some of the training set."
            )
        if config.evaluate is not None:
            raise ValueError("--evaluate trains nothing: use it with the trainer instead.")
        if config.strategy == "multiworker":
            raise ValueError(
                "--strategy multiworker is for one run: a search has --parallel_trials instead."
            )
        if space != "learning_rate" and config.activation != "elu":
            raise ValueError(
                f"--space {space} has no meaning for --activation {config.activation}: "
                "only alpha of elu has a schedule."
            )

    def _check_objective(self) -> None:
        """Prepares the data set before the first trial, and reads the metrics off the model."""
        config = self._config
        tf.config.set_visible_devices([], "GPU")  # they are for the trials
        dataset = load_dataset(config)
        steps = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
        _, arguments = self.recipe.build(config, dataset, steps * config.epochs)
        metrics = [m if isinstance(m, str) else m.name for m in arguments.get("metrics", [])]
        names = ["val_loss", *(f"val_{name}" for name in metrics)]
        objective = self._search_config.objective
        if objective not in names:
            raise ValueError(f"--objective must be {' or '.join(names)}, not {objective!r}.")

    def _configure(self, hp: keras_tuner.HyperParameters) -> training.Config:
        """Returns the configuration of a trial."""
        config = self._config
        for space in self._spaces:
            config = space(hp, config)
        if "tuner/epochs" in hp.values:
            config = dataclasses.replace(config, epochs=hp.values["tuner/epochs"])
        return config

    def _flags(self, hp: keras_tuner.HyperParameters, number: int) -> list[str]:
        """Returns the flags of a trial's run."""
        config = self._configure(hp)
        config = dataclasses.replace(config, seed=config.seed + number)
        return [
            f"--{field.name}={getattr(config, field.name)}"
            for field in dataclasses.fields(config)
            if field.name not in PLACES and getattr(config, field.name) != field.default
        ]

    def _describe(self, hp: keras_tuner.HyperParameters) -> dict:
        """Returns everything that must not change when a search is resumed."""
        left_out = {*PLACES, *MAY_CHANGE}
        config = dataclasses.asdict(self._config)
        kept = ["space", "tuner", "objective", "executions_per_trial"]
        if self._search_config.tuner == "hyperband":
            kept.append("max_trials")
        return {
            "recipe": recipe_name(self.recipe),
            **{key: getattr(self._search_config, key) for key in kept},
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
                f"--run_dir {self.folder} holds files that are not those of a search: name a new "
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
        """Makes and locks the folder; worker processes leave that to their chief.

        Raises:
            ValueError: With one sentence, if the folder cannot be written or is in use.
        """
        if self.role == "worker":
            return
        try:
            (self.folder / "trials").mkdir(parents=True, exist_ok=True)
            self._lock = files.lock(self.folder / "lock", f"--run_dir {self.folder}")
            files.write_json(self.folder / "search.json", self._identity)
            hparams.describe(self.folder / "trials", self._hp, self._search_config.objective)
        except OSError as error:
            raise ValueError(
                f"--run_dir {self.folder} cannot be written: {error.strerror}."
            ) from error

    def run(self, stop: Callable[[], bool]) -> str | None:
        """Runs the remaining trials; returns the name of the best, or None if none is complete.

        Raises:
            CannotRun: If no trial can run.
        """
        failed = threading.Event()
        group = self._runners(lambda: stop() or failed.is_set())
        serve = self._serve() if self.role == "chief" else None
        progress = Progress(self, self._oracle) if self.role != "worker" else None
        for runner in group:
            runner.start()
        while any(map(threading.Thread.is_alive, group)) or (
            serve and not self._oracle.may_close()
        ):
            time.sleep(_WATCH)
            if progress:
                progress.update()
            if any(runner.error for runner in group):
                failed.set()
            if serve and stop():
                break
            if serve and not serve.is_alive():
                raise machines.CannotRun(f"The chief cannot listen at {machines.address()}.")
        for runner in group:
            if runner.error is not None:
                raise runner.error
        if progress is None:
            return None
        progress.update()
        progress.close()
        return results.write(
            self.folder,
            self.recipe,
            self._search_config.objective,
            self._direction,
            self._config.epochs,
        )

    def _runners(self, stop: Callable[[], bool]) -> list[runners.TrialRunner]:
        oracle, prefix = self._oracle, "runner"
        if self.role == "worker":
            oracle = machines.RemoteOracle(oracle, self.folder, stop)
            prefix = os.environ["KERASTUNER_TUNER_ID"]
        return [
            runners.TrialRunner(
                oracle,
                f"{prefix}-{i}",
                share,
                recipe=self.recipe.__name__,
                flags=self._flags,
                runs=self._search_config.executions_per_trial,
                objective=self._search_config.objective,
                trials=self.folder / "trials",
                stop=stop,
            )
            for i, share in enumerate(self._shares)
        ]

    def _serve(self) -> threading.Thread:
        """Starts keras-tuner's server, which answers the workers until this process ends."""
        arguments = self._oracle, self.folder
        thread = threading.Thread(target=tuner_internals.serve, args=arguments, daemon=True)
        thread.start()
        where = f"at {machines.address()}, folder {self.folder}"
        print(f"chief: waiting for workers {where}", flush=True)
        return thread

    def first_reason(self) -> str:
        """Returns why the first trial that is not complete is not."""
        found = outcomes.read_all(self.folder / "trials")
        return next(
            (f"trial {n}: {o.reason}".rstrip(".") for n, o in found.items() if o.reason), ""
        )

    def line(self, trial: str, outcome: outcomes.Outcome) -> str:
        """Returns the line that shows a trial."""
        values = outcomes.config(self.folder / "trials", trial)
        what = results.summary(values, self.recipe) if values else "?"
        name = self._search_config.objective
        value = outcome.reason if outcome.value is None else f"{name} {outcome.value:.4g}"
        return f"trial {trial} {outcome.status:<8} {value}  {what}"

    def best(self) -> tuple[str, outcomes.Outcome] | tuple[None, None]:
        """Returns the best trial so far."""
        return outcomes.best(self._oracle.ended, self._direction, self._config.epochs)

    @property
    def total(self) -> int:
        """Number of trials."""
        trials, epochs = self._search_config.max_trials, self._config.epochs
        if self._search_config.tuner != "hyperband":
            return trials or oracles.TRIALS
        sweep = oracles.hyperband_trials(epochs)
        return (trials or sweep) // sweep * sweep
