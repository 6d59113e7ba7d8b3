"""Results of a search: a table, a picture, and the best configuration."""

import csv
import math
import pathlib
import types
from typing import Any

import numpy as np
from matplotlib import cm, colormaps, colors
from matplotlib.figure import Figure

from keras_elu import files
from keras_elu.training import from_config
from keras_elu.training.config import Config
from keras_elu.tuning import outcomes

_STEPS = 1000  # of the schedules in the picture
_BEST = "#d1495b"
# From dark to light, without the yellow end of viridis, which is hard to see on white.
_SHADES = colors.ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.7, 256)))


def write(
    folder: pathlib.Path, recipe: types.ModuleType, objective: str, direction: str, epochs: int
) -> str | None:
    """Writes trials.csv, schedules.png and, once a trial is complete, best.json.

    Returns:
        The name of the best trial; None if no trial is complete.
    """
    trials = folder / "trials"
    found = outcomes.read_all(trials)
    configs = {trial: outcomes.config(trials, trial) for trial in found}
    best, _ = outcomes.best(found, direction, epochs)
    _table(folder / "trials.csv", found, configs)
    if best is not None:
        files.write_json(folder / "best.json", configs[best])
    config = {trial: _config(recipe, c) for trial, c in configs.items() if c is not None}
    figure = picture(config, found, best, objective, direction)
    with files.aside(folder / "schedules.png") as path:
        figure.savefig(path, dpi=130, format="png")
    return best


def _table(path: pathlib.Path, found: dict[str, outcomes.Outcome], configs) -> None:
    """Writes a row for every trial, with the flags that differ between trials."""
    known = [c for c in configs.values() if c is not None]
    names = [key for c in known[:1] for key in c if any(c[key] != other[key] for other in known)]
    with (
        files.aside(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["trial", "status", "value", "runs", "epochs", *names, "reason"])
        for trial, outcome in found.items():
            values = [(configs[trial] or {}).get(name) for name in names]
            start = [trial, outcome.status, outcome.value, len(outcome.values), outcome.epochs]
            rows.writerow([*start, *values, outcome.reason])


def _config(recipe: types.ModuleType, values: dict[str, Any]) -> Config:
    return recipe.Config(**{k: v for k, v in values.items() if k != "recipe"})


def picture(
    config: dict[str, Config],
    found: dict[str, outcomes.Outcome],
    best: str | None,
    objective: str,
    direction: str,
) -> Figure:
    """Returns a picture of all schedules, coloured by the objectives of their trials.

    Args:
        config: Configurations by the names of their trials.
        found: Outcomes by the names of their trials.
        best: Name of the best trial.
        objective: Metric of the history.
        direction: "min" or "max".
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    rates, alphas, objectives = figure.subplots(1, 3)
    values = [outcome.value for outcome in found.values() if outcome.value is not None]
    # The colours span the better half of the complete trials; all worse ones share one colour.
    complete = [o.value for o in found.values() if o.status == outcomes.COMPLETE]
    ends = sorted(complete, reverse=direction == "max") or [0.0, 1.0]
    good, bad = ends[0], ends[len(ends) // 2]
    scale = colors.Normalize(min(good, bad), max(good, bad) if good != bad else good + 1e-9)
    shades = _SHADES if direction == "min" else _SHADES.reversed()
    x = np.arange(_STEPS + 1)
    order = sorted(config, key=lambda trial: trial == best)
    for trial in order:
        outcome = found[trial]
        failed = outcome.value is None
        value = bad if outcome.status == outcomes.PRUNED else outcome.value
        look = (
            {"color": "0.6", "linestyle": ":"}
            if failed
            else {
                "color": cm.ScalarMappable(scale, shades).to_rgba(value),
                "alpha": 0.8,
            }
        )
        look |= {"linewidth": 1}
        if trial == best:
            look = {"color": _BEST, "linewidth": 2.5, "label": f"best, {trial}"}
        for axes, of in ((rates, from_config.learning_rate), (alphas, from_config.alpha)):
            schedule = of(config[trial], _STEPS)
            y = schedule(x) if callable(schedule) else np.full(len(x), schedule)
            axes.plot(x / _STEPS, np.asarray(y), **look)
        if not failed:
            marker = "o" if outcome.status == outcomes.COMPLETE else "v"
            place, color = list(found).index(trial), look["color"]
            objectives.plot(place, outcome.value, marker, color=color)
            if len(outcome.values) > 1:
                objectives.plot(
                    [place] * len(outcome.values), outcome.values, ".", ms=3, color=color
                )
    _improvement(objectives, found, direction)
    positive = [v for v in values if v > 0]
    if len(positive) == len(values) and values and max(values) > 10 * min(values):
        objectives.set_yscale("log")
    rates.set(title="learning rate", xlabel="fraction of the training", yscale="log")
    rates.set_ylim(bottom=max(rates.get_ylim()[0], rates.get_ylim()[1] * 1e-4))
    alphas.set(title="alpha", xlabel="fraction of the training")
    objectives.set(title=f"{objective}, held-out", xlabel="trial")
    if best is not None:
        rates.legend()
    bar = figure.colorbar(cm.ScalarMappable(scale, shades), ax=objectives)
    bar.set_label("best to median; triangles: pruned, dotted: failed")
    return figure


def _improvement(axes, found: dict[str, outcomes.Outcome], direction: str) -> None:
    """Draws the best objective so far."""
    better = min if direction == "min" else max
    so_far, line = math.inf if direction == "min" else -math.inf, []
    for outcome in found.values():
        if outcome.status == outcomes.COMPLETE:
            so_far = better(so_far, outcome.value)
        line.append(so_far)
    finite = [(i, v) for i, v in enumerate(line) if math.isfinite(v)]
    if finite:
        axes.step(*zip(*finite, strict=True), where="post", color=_BEST, linewidth=1)


def summary(values: dict[str, Any], recipe: types.ModuleType) -> str:
    """Returns the schedules of a configuration in a few words."""
    c = _config(recipe, values)
    rate = f"{c.learning_rate_schedule} {c.learning_rate:.3g}"
    alpha = f"alpha {c.alpha:.3g}" + (
        "" if c.alpha_schedule == "constant" else f" {c.alpha_schedule}"
    )
    return f"{rate}, {alpha}"
