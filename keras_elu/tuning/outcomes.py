"""What became of trials: a file each, written once, beside the folders of its runs."""

import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_elu import files

COMPLETE, STOPPED, FAILED = "complete", "stopped", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a trial.

    Args:
        status: "complete", "stopped" because others were better, or "failed".
        value: The mean of `values`; None of a trial that failed.
        epochs: Epochs that were trained, of each training that came to its end all.
        values: The objective of each training, in the order of their seeds, after the last epoch
            that was trained.
        reason: Why it did not complete; None if it did.
    """

    status: str
    value: float | None
    epochs: int
    values: Sequence[float] = ()
    reason: str | None = None


def run_name(trial: str, execution: int) -> str:
    """Returns the name of the folder of one of a trial's runs; of the first it is the trial's.

    Example:

    >>> run_name("07", 0), run_name("07", 1)
    ('07', '07-2')
    """
    return f"{trial}-{execution + 1}" if execution else trial


def write(trials: pathlib.Path, trial: str, outcome: Outcome) -> None:
    """Stores what became of a trial."""
    files.write_json(trials / f"{trial}.json", dataclasses.asdict(outcome))


def read(trials: pathlib.Path, trial: str) -> Outcome | None:
    """Returns what became of a trial; None if it has not ended."""
    try:
        return Outcome(**json.loads((trials / f"{trial}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def read_all(trials: pathlib.Path) -> dict[str, Outcome]:
    """Returns what became of the trials that have ended, by their names, in order."""
    return {path.stem: read(trials, path.stem) for path in sorted(trials.glob("*.json"))}


def config(trials: pathlib.Path, trial: str) -> dict[str, Any] | None:
    """Returns the configuration of a trial's first run; None if the run has not begun."""
    try:
        return json.loads((trials / trial / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def curve(trials: pathlib.Path, run: str, objective: str) -> list[float]:
    """Returns the objective after every epoch that a run has trained so far."""
    try:
        with (trials / run / "history.csv").open(newline="", encoding="utf-8") as file:
            values = [row.get(objective) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    return [float(value) if value else math.nan for value in values]


def best(
    found: dict[str, Outcome], direction: str, epochs: int
) -> tuple[str, Outcome] | tuple[None, None]:
    """Returns the best of the trials that are complete and trained for so many epochs.

    Args:
        found: Trials that have ended, by their names.
        direction: "min" or "max".
        epochs: Of fewer epochs are the early rounds of Hyperband.

    Example:

    >>> found = {
    ...     "0": Outcome(status="complete", value=0.5, epochs=9),
    ...     "1": Outcome(status="complete", value=0.3, epochs=9),
    ...     "2": Outcome(status="complete", value=0.1, epochs=3),
    ...     "3": Outcome(status="stopped", value=0.2, epochs=9),
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
