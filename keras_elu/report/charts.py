"""Curves of groups of runs, as pictures for light and dark pages."""

import pathlib
import statistics
from collections.abc import Sequence

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import matplotlib.ticker

from keras_elu.files import aside
from keras_elu.report.runs import Group

# Of the groups, in their order; distinct for the colour-blind, on black and on white.
COLOURS = (
    *("#0f8b8d", "#d1495b", "#d99a2b", "#7b6fd0"),
    *("#4c9f4c", "#b0703c", "#4f83cc", "#8c8c8c"),
)
_INK = {"light": "#1f2328", "dark": "#e6e6e6"}
_LOGARITHMIC = 5  # the axis of a loss whose ends differ by more than this factor is logarithmic


def draw(metric: str, groups: Sequence[Group], path: pathlib.Path, theme: str) -> None:
    """Draws the mean and the range over the seeds, by epoch.

    Args:
        metric: A column of the histories.
        groups: The groups to compare.
        path: The PNG file.
        theme: Theme of the page, "light" or "dark".
    """
    ink = _INK[theme]
    style = {name: ink for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")}
    style |= {"axes.edgecolor": ink, "font.size": 11, "axes.spines.top": False}
    with plt.rc_context(style | {"axes.spines.right": False}):
        figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
        means = []
        for number, group in enumerate(groups):
            curve = group.curve(metric)
            epochs = range(1, len(curve) + 1)
            colour = COLOURS[number % len(COLOURS)]
            line = ("-", "--", ":")[number // len(COLOURS) % 3]
            mean = [statistics.mean(values) for values in curve]
            marker = "o" if len(mean) == 1 else None
            axes.plot(epochs, mean, line, color=colour, label=group.name, marker=marker)
            low, high = [min(values) for values in curve], [max(values) for values in curve]
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            means += mean
        axes.set(xlabel="epoch", title=title(metric))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.grid(color=ink, alpha=0.15, linewidth=0.6)
        if "accuracy" in metric:
            axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        elif "loss" in metric and min(means) > 0 and max(means) > _LOGARITHMIC * min(means):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        elif metric == "images_per_second":
            axes.yaxis.set_major_formatter("{x:,.0f}")
        if 1 < len(groups) <= len(COLOURS):
            axes.legend(frameon=False, fontsize=9)
        with aside(path) as unfinished:
            figure.savefig(unfinished, dpi=160, transparent=True, format="png")
        plt.close(figure)


def title(metric: str) -> str:
    """Returns the title of a column of the histories.

    Example:

    >>> title("val_top_5_accuracy"), title("loss"), title("images_per_second")
    ('validation top 5 accuracy', 'training loss', 'images per second')
    """
    words = metric.removeprefix("val_").replace("_", " ")
    if metric == "images_per_second":
        return words
    return f"{'validation' if metric.startswith('val_') else 'training'} {words}"
