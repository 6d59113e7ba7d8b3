"""The figure of an experiment: curves over the epochs, mean and range over the seeds."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure

from keras_elu import files
from keras_elu.experiments.experiment import Experiment, Panel

_COLOURS = {"elu": "#d1495b", "shifted_relu": "#5b4b8a", "leaky_relu": "#edae49", "relu": "#00798c"}
_HEIGHT, _WIDTH = 3.4, 4.6  # inches


def draw(experiment: Experiment, runs: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws the panels side by side, or a row of all cases for each.

    Args:
        experiment: The experiment.
        runs: Those in its file of results.
        path: The PNG file.
    """
    cases = list(experiment.cases)
    grid = (1, len(experiment.panels)) if len(cases) == 1 else (len(experiment.panels), len(cases))
    figure = matplotlib.figure.Figure(
        figsize=(_WIDTH * grid[1], _HEIGHT * grid[0]), layout="constrained"
    )
    axes = iter(figure.subplots(*grid, squeeze=False).flat)
    for panel in experiment.panels:
        for case in cases:
            of_case = [run for run in runs if run["case"] == case]
            _panel(next(axes), panel, of_case, case)
    figure.suptitle(f"{experiment.title} (mean and range over the seeds)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.aside(path) as unfinished:
        figure.savefig(unfinished, dpi=120, format="png")


def _panel(axes: matplotlib.axes.Axes, panel: Panel, runs, case: str) -> None:
    for arm in panel.arms:
        of_arm = [run for run in runs if run["arm"] == arm]
        curves = [run["curves"][panel.curve] for run in of_arm if run["diverged"] is None]
        diverged = len(of_arm) - len(curves)
        label = arm + (f" ({diverged} diverged)" if diverged else "")
        colour = _COLOURS.get(arm.removesuffix("_batch_norm"))
        style = "--" if "batch_norm" in arm else "-"
        if not curves:
            if diverged:
                axes.plot([], [], style, color=colour, label=label)
            continue
        epochs = range(1, len(curves[0]) + 1)
        columns = list(zip(*curves, strict=True))
        means = list(map(statistics.fmean, columns))
        (line,) = axes.plot(epochs, means, style, color=colour, label=label)
        low, high = list(map(min, columns)), list(map(max, columns))
        axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel=panel.label, title=case)
    if panel.log:
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
