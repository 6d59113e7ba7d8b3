"""The figure of an experiment: curves over the epochs, mean and range over the seeds."""

import itertools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure

from keras_elu import files
from keras_elu.experiments.experiment import Experiment, Panel

_COLOURS = {"elu": "#d1495b", "shifted_relu": "#5b4b8a", "leaky_relu": "#edae49", "relu": "#00798c"}
# Those of other arms, none of which is close to that of ELU.
_OTHERS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#000000"),
)
_HEIGHT, _WIDTH = 2.9, 3.4  # inches of a panel, without its legend
_ALONE = 7.2  # width of a single panel, above which the title fits
_COLUMNS, _ROW = 2, 0.22  # of a legend, and the height of its rows


def draw(experiment: Experiment, runs: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Draws the panels side by side, or a row of all cases for each.

    Args:
        experiment: The experiment.
        runs: Those in its file of results.
        path: The PNG file.
    """
    cases = list(experiment.cases)
    grid = (1, len(experiment.panels)) if len(cases) == 1 else (len(experiment.panels), len(cases))
    width = _ALONE if grid == (1, 1) else _WIDTH * grid[1]
    legend = _ROW * -(-max(len(panel.arms) for panel in experiment.panels) // _COLUMNS)
    figure = matplotlib.figure.Figure(
        figsize=(width, (_HEIGHT + legend) * grid[0]), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.08, wspace=0.04)
    axes = iter(figure.subplots(*grid, squeeze=False).flat)
    for panel in experiment.panels:
        for case in cases:
            of_case = [run for run in runs if run["case"] == case]
            _panel(next(axes), panel, of_case, case)
    figure.suptitle(f"{experiment.title} (mean and range over the seeds)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.aside(path) as unfinished:
        figure.savefig(unfinished, dpi=150, format="png")


def _looks(arms: Sequence[str]) -> dict[str, dict[str, str]]:
    """Returns colour and line style of each arm of a panel.

    An arm has the colour of the activation that its name begins with. Of two arms of the same
    activation, the second one is dashed; of more, all but the first have colours of their own.

    Example:

    >>> _looks(["elu", "relu_5x256"])["relu_5x256"] == _looks(["relu"])["relu"]
    True
    >>> [look["linestyle"] for look in _looks(["elu", "elu_batch_norm"]).values()]
    ['-', '--']
    """
    activations = {arm: _activation(arm) for arm in arms}
    count = list(activations.values()).count
    others, found, seen = itertools.cycle(_OTHERS), {}, set()
    for arm, activation in activations.items():
        again = activation in seen
        seen.add(activation)
        own = activation is None or (again and count(activation) > 2)
        found[arm] = {
            "color": next(others) if own else _COLOURS[activation],
            "linestyle": "--" if again and not own else "-",
        }
    return found


def _activation(arm: str) -> str | None:
    """The activation with a colour that the name of an arm begins with."""
    return next((name for name in _COLOURS if f"{arm}_".startswith(f"{name}_")), None)


def _panel(axes: matplotlib.axes.Axes, panel: Panel, runs, case: str) -> None:
    for arm, look in _looks(panel.arms).items():
        of_arm = [run for run in runs if run["arm"] == arm]
        curves = [run["curves"][panel.curve] for run in of_arm if run["diverged"] is None]
        diverged = len(of_arm) - len(curves)
        label = arm + (f" ({diverged} diverged)" if diverged else "")
        if not curves:
            if diverged:
                axes.plot([], [], **look, label=label)
            continue
        epochs = range(1, len(curves[0]) + 1)
        columns = list(zip(*curves, strict=True))
        means = list(map(statistics.fmean, columns))
        axes.plot(epochs, means, **look, label=label)
        low, high = list(map(min, columns)), list(map(max, columns))
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel=panel.label, title=case)
    if panel.log:
        axes.set_yscale("log")
    if axes.get_legend_handles_labels()[0]:  # below the curves, so that it covers none
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.19),
            ncols=_COLUMNS,
            frameon=False,
            columnspacing=1.0,
            handlelength=1.6,
        )
