"""The part of a page that shows an experiment, written from its file of results."""

import itertools
import math
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from keras_elu import files
from keras_elu.experiments import orderings
from keras_elu.experiments.experiment import Experiment


def insert(text: str, experiment: Experiment, results: Mapping[str, Any]) -> str:
    """Returns the text of a page with the block of an experiment, replaced or added at the end.

    The block ends with a marker; text that follows it is kept.

    Args:
        text: The page.
        experiment: The experiment.
        results: The content of its file of results.
    """
    made = block(experiment, results)
    begin, end = (re.escape(marker) for marker in _markers(experiment))
    replaced, count = re.subn(f"{begin}.*?{end}", lambda _: made, text, flags=re.DOTALL)
    return replaced if count else f"{text.rstrip()}\n\n## {experiment.title}\n\n{made}\n".lstrip()


def write(path: pathlib.Path, experiment: Experiment, results: Mapping[str, Any]) -> None:
    """Writes the block of an experiment into a page, which is made if it does not exist."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    with files.aside(path) as unfinished:
        unfinished.write_text(insert(text, experiment, results), encoding="utf-8")


def block(experiment: Experiment, results: Mapping[str, Any]) -> str:
    """Returns the block of an experiment: claim, figure, numbers, tests and command.

    Args:
        experiment: The experiment.
        results: The content of its file of results.
    """
    begin, end = _markers(experiment)
    runs = results["runs"]
    first, planned = runs[0], len(experiment.arms) * len(experiment.cases) * len(experiment.seeds)
    commits = ", ".join(sorted({str(run["commit"])[:12] for run in runs}))
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return "\n".join(
        [
            begin,
            f"The claim. {experiment.paper}",
            "",
            f"![{experiment.title}](experiment_{experiment.name}.png)",
            "",
            f"Mean ± standard deviation over the seeds, of the {len(runs)} runs of {planned} that "
            "are complete:",
            "",
            *_numbers(experiment, runs),
            "",
            "Exact paired tests of the claimed orderings. A positive difference agrees with the "
            "claim; p is one-sided (Wilcoxon's signed-rank test, all signs enumerated):",
            "",
            *_tests(experiment, runs),
            "",
            "```sh",
            results["command"],
            "```",
            "",
            f"`--arms` and `--seeds` repeat single runs. {_hours(runs)} hours of training on "
            f"{first['processor']}; {versions}; commit {commits}.",
            end,
        ]
    )


def _markers(experiment: Experiment) -> tuple[str, str]:
    return f"<!-- experiment {experiment.name} -->", f"<!-- end of {experiment.name} -->"


def _numbers(experiment: Experiment, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for case, arm in itertools.product(experiment.cases, experiment.arms):
        of = [run for run in runs if (run["case"], run["arm"]) == (case, arm)]
        if of:
            numbers = [_spread(measure, of, runs) for measure in experiment.measures.values()]
            rows.append([" at ".join(filter(None, [arm, case])), len(of), *numbers])
    return _table(["arm", "runs", *experiment.measures], rows)


def _spread(measure, of_arm, runs) -> str:
    try:
        values = [measure(run, runs) for run in of_arm]
    except KeyError:  # a curve that only other arms have
        return "-"
    if diverged := sum(map(math.isinf, values)):
        return f"{diverged} of {len(values)} diverged"
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def _tests(experiment: Experiment, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            f"{found.measure}: {found.lower} < {found.higher}",
            len(found.differences),
            sum(d > 0 for d in found.differences),
            f"{found.mean:+.3g}" if math.isfinite(found.mean) else "-",
            f"{found.p:.3g}",
        ]
        for found in orderings.compare(experiment, runs)
    ]
    return _table(["claim", "pairs", "pairs that agree", "mean difference", "p"], rows)


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def _hours(runs: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(run['seconds'] for run in runs) / 3600:.2g}"
