"""A search from its command line to its exit code."""

import os
import pathlib
import shlex
import sys
import types
from collections.abc import Sequence

from keras_elu import commands
from keras_elu.training import signals
from keras_elu.training.config import recipe_name
from keras_elu.tuning.config import parse
from keras_elu.tuning.spaces import Space


def main(
    recipe: types.ModuleType,
    *,
    learning_rate: Space,
    alpha: Space,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs or resumes the search that a command line describes.

    With keras-tuner's `KERASTUNER_ORACLE_IP`, `KERASTUNER_ORACLE_PORT` and `KERASTUNER_TUNER_ID`
    set, the process is the chief, if its ID contains "chief", or one of its workers; all of them
    share the folder. The exit code is 0 if a trial is complete, 1 if none is, 2 for a wrong command
    line, and 75 if the search was stopped by a signal. An error is one sentence.

    Args:
        recipe: A module of `keras_elu.recipes`.
        learning_rate: The space of learning-rate schedules.
        alpha: The space of schedules of alpha.
        arguments: The command line. None: the process's own.
    """
    stop = signals.StopSignals()
    try:
        configs = parse(recipe, arguments)
        commands.require("keras_tuner", "scipy", "matplotlib", extra="tuning")
        from keras_elu.tuning import machines
        from keras_elu.tuning.search import Search

        search = Search(recipe, {"learning_rate": learning_rate, "alpha": alpha}, *configs)
        search.start()
    except (ImportError, ValueError) as error:
        sys.exit(commands.failure(ValueError(error)))
    with stop.handled():
        try:
            best = search.run(stop)
        except machines.CannotRun as error:
            sys.exit(commands.failure(error))
    if stop():
        print("Stopped and saved. Run the same command to resume.", file=sys.stderr)
        sys.exit(commands.RESUMABLE)
    if search.role == "worker":
        return
    if best is None:
        sys.exit(commands.failure(f"no trial is complete: {search.first_reason()}."))
    print(f"Everything is in {search.folder}. To see the trials in TensorBoard:")
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--logdir", search.folder / "trials"]
    print(" ", shlex.join(map(str, tensorboard)))
    print("To train the best:")
    print(" ", training_command(recipe, search.folder / "best.json"), flush=True)


def training_command(recipe: types.ModuleType, best: pathlib.Path) -> str:
    """Returns the command that trains the best configuration, for a shell in this folder."""
    folder = pathlib.Path(sys.argv[0]).absolute().parents[1] / "trainers"
    trainer = folder / f"{recipe_name(recipe)}.py"
    return shlex.join([sys.executable, os.path.relpath(trainer), "--config", str(best)])
