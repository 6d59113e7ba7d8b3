"""What the folders of runs hold, put together by configuration."""

import csv
import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

ACCURACY = "val_accuracy"
_NO_METRICS = ("epoch", "seconds")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Args:
        path: Its folder.
        config: Its configuration.
        environment: Where it ran.
        history: Its metrics by epoch.
        result: What came of it; None as long as it has not ended.
    """

    path: pathlib.Path
    config: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, float]]
    result: dict[str, Any] | None

    @property
    def device_hours(self) -> float | None:
        """Hours that it took, times the number of GPUs, or of workers where it had none."""
        if self.result is None:
            return None
        return self.result["seconds"] * self.result.get("devices", 1) / 3600

    def first(self, accuracy: float) -> dict[str, float] | None:
        """Returns the first epoch with this validation accuracy: epochs, steps and seconds."""
        row = next((r for r in self.history if r.get(ACCURACY, -math.inf) >= accuracy), None)
        if row is None:
            return None
        found = {"epochs": row["epoch"] + 1}
        if self.result is not None:
            found["steps"] = found["epochs"] * self.result["steps"] / self.result["epochs"]
        return found | {key: row[key] for key in ("seconds",) if key in row}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose configurations differ in the seed only.

    Args:
        name: In what it differs from the other groups.
        runs: The runs, by seed.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that its runs share, without the seed."""
        return _without_seed(self.runs[0])

    def numbers(self, of: Callable[[Run], float | None]) -> list[float]:
        """Returns a number of each run that has it."""
        return [number for run in self.runs if (number := of(run)) is not None]

    def curve(self, metric: str) -> list[list[float]]:
        """Returns for each epoch the values that its runs have."""
        columns = [[row[metric] for row in run.history if metric in row] for run in self.runs]
        longest = max(map(len, columns))
        return [[column[i] for column in columns if i < len(column)] for i in range(longest)]


def read(path: pathlib.Path) -> Run:
    """Returns the run of a folder.

    Raises:
        ValueError: With one sentence, if the folder is not that of a run.
    """
    try:
        config, environment = (
            json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("config", "environment")
        )
        with (path / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        result = path / "result.json"
        result = json.loads(result.read_text(encoding="utf-8")) if result.exists() else None
    except OSError as error:
        raise ValueError(
            f"{path} is not the folder of a run that has done an epoch: {error.filename} cannot be "
            f"read ({error.strerror})."
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds a file of a run that is damaged ({error}).") from error
    if not rows:
        raise ValueError(f"{path} is of a run that has not done an epoch yet.")
    return Run(path, config, environment, rows, result)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Returns the runs by configuration, in the order of the first of each.

    Example:

    >>> runs = [
    ...     Run(pathlib.Path("a"), {"activation": name, "alpha": 1.0, "seed": seed}, {}, [], None)
    ...     for name, seed in (("elu", 1), ("relu", 0), ("elu", 0))
    ... ]
    >>> [(group.name, [run.config["seed"] for run in group.runs]) for group in grouped(runs)]
    [('activation elu', [0, 1]), ('activation relu', [0])]
    """
    by_config = {}
    for run in runs:
        key = json.dumps(_without_seed(run), sort_keys=True)
        by_config.setdefault(key, []).append(run)
    sets = [sorted(of, key=lambda run: run.config.get("seed", 0)) for of in by_config.values()]
    fields = differing([_without_seed(of[0]) for of in sets])
    return [Group(_name(of[0], fields), tuple(of)) for of in sets]


def differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the fields in which configurations differ.

    Example:

    >>> differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}])
    ['b']
    """
    fields = dict.fromkeys(field for config in configs for field in config)
    return [f for f in fields if any(config.get(f) != configs[0].get(f) for config in configs)]


def metrics(groups: Sequence[Group]) -> list[str]:
    """Returns the columns of the histories that are curves, losses first, the speed last."""
    rows = (row for group in groups for run in group.runs for row in run.history)
    found = {key for row in rows for key in row} - set(_NO_METRICS)

    def place(metric):
        name = metric.removeprefix("val_")
        return name == "images_per_second", "loss" not in name, name, metric

    return sorted(found, key=place)


def common_accuracy(groups: Sequence[Group]) -> float | None:
    """Returns the validation accuracy that every run has reached, rounded down to a percent."""
    runs = [run for group in groups for run in group.runs]
    best = [max((row.get(ACCURACY, -1) for row in run.history), default=-1) for run in runs]
    least = math.floor(100 * min(best)) / 100
    return least if least > 0 else None


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Returns the mean, and with several values the standard deviation of a sample.

    Example:

    >>> spread([1.0, 2.0, 3.0], "{:.1f}".format), spread([2.0], "{:.1f}".format)
    ('2.0 ± 1.0', '2.0')
    """
    if not values:
        return "-"
    mean = form(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {form(statistics.stdev(values))}"


def _without_seed(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key != "seed"}


def _name(run: Run, fields: Sequence[str]) -> str:
    if not fields:
        return f"{run.config.get('recipe')} on {run.config.get('dataset')}"
    return ", ".join(f"{field} {run.config.get(field)}" for field in fields)


def form(metric: str, values: Sequence[float]) -> Callable[[float], str]:
    """Returns how values are written: accuracies in percent, others to 4 digits of the greatest.

    Example:

    >>> form("accuracy", [0.9725])(0.9725), form("loss", [0.123456, 0.01])(0.01)
    ('97.25%', '0.0100')
    """
    if "accuracy" in metric:
        return "{:.2%}".format
    greatest = max(map(abs, values), default=0) or 1
    return f"{{:.{max(0, 3 - math.floor(math.log10(greatest)))}f}}".format
