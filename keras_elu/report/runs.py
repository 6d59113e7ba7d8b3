"""Reads the folders of runs, and groups runs by configuration."""

import csv
import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

ACCURACY, SPEED = "val_accuracy", "images_per_second"
_NO_METRICS = ("epoch", "seconds")
_ROUNDING = 1e-6  # of accuracies, which are float32: 0.95 is stored as 0.949999988


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A run as its folder describes it, complete or not.

    Args:
        path: The folder.
        config: Content of config.json.
        environment: Content of environment.json.
        history: Metrics by epoch.
        result: Content of result.json; None until the run is complete.
    """

    path: pathlib.Path
    config: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, float]]
    result: dict[str, Any] | None

    @property
    def device_hours(self) -> float | None:
        """Hours of the run times its GPUs, or times its workers if it had no GPU."""
        if self.result is None:
            return None
        return self.result["seconds"] * self.result.get("devices", 1) / 3600

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs, so that a pause in one of them does not count."""
        speeds = [row[SPEED] for row in self.history if not math.isnan(row.get(SPEED, math.nan))]
        return statistics.median(speeds) if speeds else None

    def first(self, accuracy: float) -> dict[str, float] | None:
        """Returns epochs, steps and seconds up to the first epoch with this validation accuracy."""
        least = accuracy - _ROUNDING
        row = next((r for r in self.history if r.get(ACCURACY, -math.inf) >= least), None)
        if row is None:
            return None
        found = {"epochs": row["epoch"] + 1}
        if self.result is not None:
            found["steps"] = found["epochs"] * self.result["steps"] / self.result["epochs"]
        return found | {key: row[key] for key in ("seconds",) if key in row}


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Args:
        name: The fields that differ from the other groups, with their values.
        runs: The runs, in the order of their seeds.
    """

    name: str
    runs: tuple[SavedRun, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its runs, without the seed."""
        return _without_seed(self.runs[0])

    def numbers(self, of: Callable[[SavedRun], float | None]) -> list[float]:
        """Returns a number of each run, without the runs for which it is None."""
        return [number for run in self.runs if (number := of(run)) is not None]

    def curve(self, metric: str) -> list[list[float]]:
        """Returns the values of the runs for each epoch."""
        columns = [[row[metric] for row in run.history if metric in row] for run in self.runs]
        longest = max(map(len, columns))
        return [[column[i] for column in columns if i < len(column)] for i in range(longest)]


def read_all(paths: Sequence[pathlib.Path]) -> tuple[list[SavedRun], list[str]]:
    """Returns the runs of some folders, and a line for each folder that is left out.

    A folder is left out if it has no config.json, like that of a search, or if its run has not
    completed an epoch. A folder that is given by several paths counts once.

    Raises:
        ValueError: With one sentence, if a folder does not exist or is damaged, or no run is left.
    """
    found, left_out, unique = [], [], {}
    for path in paths:
        unique.setdefault(path.resolve(), path)
    for path in unique.values():
        if not path.exists():
            raise ValueError(f"{path} does not exist.")
        if not (path / "config.json").exists():
            left_out.append(f"{path} is not the folder of a run.")
        elif not (rows := _history(path)):
            left_out.append(f"{path} is a run that has not completed an epoch yet.")
        else:
            found.append(_read(path, rows))
    if not found:
        raise ValueError(f"There is nothing to compare: {left_out[0]}")
    return found, left_out


def _history(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the metrics by epoch of a folder."""
    try:
        with (path / "history.csv").open(newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is a run with a damaged history.csv ({error}).") from error


def _read(path: pathlib.Path, history: list[dict[str, float]]) -> SavedRun:
    try:
        config, environment = (
            json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("config", "environment")
        )
        result = path / "result.json"
        result = json.loads(result.read_text(encoding="utf-8")) if result.exists() else None
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ValueError(f"{path} is a run with a damaged file ({error}).") from error
    return SavedRun(path, config, environment, history, result)


def grouped(runs: Sequence[SavedRun]) -> list[Group]:
    """Returns the runs in groups, in the order of their first runs.

    Example:

    >>> runs = [
    ...     SavedRun(pathlib.Path("a"), {"activation": name, "seed": seed}, {}, [], None)
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
    """Returns the fields that differ between configurations.

    Example:

    >>> differing([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}])
    ['b']
    """
    fields = dict.fromkeys(field for config in configs for field in config)
    return [f for f in fields if any(config.get(f) != configs[0].get(f) for config in configs)]


def metrics(groups: Sequence[Group]) -> list[str]:
    """Returns the columns of the histories to draw, losses first, the speed last."""
    rows = (row for group in groups for run in group.runs for row in run.history)
    found = {key for row in rows for key in row} - set(_NO_METRICS)

    def place(metric):
        name = metric.removeprefix("val_")
        return name == SPEED, "loss" not in name, name, metric

    return sorted(found, key=place)


def common_accuracy(groups: Sequence[Group]) -> float | None:
    """Returns the highest accuracy that every run has reached, rounded down to a percent."""
    runs = [run for group in groups for run in group.runs]
    best = [max((row.get(ACCURACY, -1) for row in run.history), default=-1) for run in runs]
    least = math.floor(100 * (min(best) + _ROUNDING)) / 100
    return least if least > 0 else None


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Returns the mean and, for several values, the standard deviation of the sample.

    Example:

    >>> spread([1.0, 2.0, 3.0], "{:.1f}".format), spread([2.0], "{:.1f}".format)
    ('2.0 ± 1.0', '2.0')
    """
    if not values:
        return "-"
    mean = form(statistics.mean(values))
    return mean if len(values) == 1 else f"{mean} ± {form(statistics.stdev(values))}"


def _without_seed(run: SavedRun) -> dict[str, Any]:
    return {key: value for key, value in run.config.items() if key != "seed"}


def _name(run: SavedRun, fields: Sequence[str]) -> str:
    if not fields:
        return f"{run.config.get('recipe')} on {run.config.get('dataset')}"
    return ", ".join(f"{field} {run.config.get(field)}" for field in fields)


def form(metric: str, values: Sequence[float]) -> Callable[[float], str]:
    """Returns how to write values: accuracies in percent, others with 4 digits of the largest.

    Example:

    >>> form("accuracy", [0.9725])(0.9725), form("loss", [0.123456, 0.01])(0.01)
    ('97.25%', '0.0100')
    """
    if "accuracy" in metric:
        return "{:.2%}".format
    greatest = max(map(abs, values), default=0) or 1
    return f"{{:.{max(0, 3 - math.floor(math.log10(greatest)))}f}}".format
