"""Outcomes of trials: one file each, written once, next to the folders of the trial's runs."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_elu import files

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a trial.

    Args:
        status: "complete", "pruned" because other trials were better, or "failed".
        value: The mean of `values`; None if the trial failed.
        epochs: Epochs of the last run.
        values: The objective after the last epoch of each run, in the order of their seeds.
        reason: Why the trial is not complete; None if it is.
    """

    status: str
    value: float | None
    epochs: int
    values: Sequence[float] = ()
    reason: str | None = None


def run_name(trial: str, number: int) -> str:
    """Returns the name of the folder of a trial's run; that of the first run is the trial's name.

    Example:

    >>> run_name("07", 0), run_name("07", 1)
    ('07', '07-2')
    """
    return f"{trial}-{number + 1}" if number else trial


def write(trials: pathlib.Path, trial: str, outcome: Outcome) -> None:
    """Writes the outcome of a trial."""
    files.write_json(trials / f"{trial}.json", dataclasses.asdict(outcome))


def read(trials: pathlib.Path, trial: str) -> Outcome | None:
    """Returns the outcome of a trial; None if it has not ended."""
    try:
        return Outcome(**json.loads((trials / f"{trial}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def read_all(trials: pathlib.Path) -> dict[str, Outcome]:
    """Returns the outcomes of all trials that have ended, by name, in order."""
    return {path.stem: read(trials, path.stem) for path in sorted(trials.glob("*.json"))}


def config(trials: pathlib.Path, trial: str) -> dict[str, Any] | None:
    """Returns the configuration of a trial's first run; None before the run has started."""
    try:
        return json.loads((trials / trial / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def curve(trials: pathlib.Path, run: str, objective: str) -> list[float]:
    """Returns the objective after each epoch of a run so far."""
    try:
        with (trials / run / "history.csv").open(newline="", encoding="utf-8") as file:
            values = [row.get(objective) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    return [float(value) if value else math.nan for value in values]


def best(
    found: dict[str, Outcome], direction: str, epochs: int
) -> tuple[str, Outcome] | tuple[None, None]:
    """Returns name and outcome of the best complete trial.

    Args:
        found: Outcomes by the names of their trials.
        direction: "min" or "max".
        epochs: Epochs of a complete training; trials of Hyperband's early rounds have fewer.

    Example:

    >>> found = {
    ...     "0": Outcome(status="complete", value=0.5, epochs=9),
    ...     "1": Outcome(status="complete", value=0.3, epochs=9),
    ...     "2": Outcome(status="complete", value=0.1, epochs=3),
    ...     "3": Outcome(status="pruned", value=0.2, epochs=9),
    ... }
    >>> best(found, "min", 9)[0], best(found, "max", 9)[0], best({}, "min", 9)[0]
    ('1', '0', None)
    """
    sign = 1 if direction == "min" else -1
    full = {
        trial: outcome
        for trial, outcome in found.items()
        if outcome.status == COMPLETE and outcome.epochs == epochs
    }
    if not full:
        return None, None
    return min(full.items(), key=lambda item: (sign * item[1].value, item[0]))
