"""The file of an experiment's results: small, and enough to draw and test it again."""

import csv
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_elu import files
from keras_elu.experiments.experiment import Experiment, Planned
from keras_elu.experiments.running import DIVERGED
from keras_elu.training.config import MAY_CHANGE, PLACES

_DIGITS = 4  # of the numbers in a curve
# Of a history. Accuracies are stored as errors.
_COLUMNS = {
    *("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second"),
    *("median_activation", "median_variance"),
}


def read(path: pathlib.Path, experiment: Experiment) -> dict[str, Any]:
    """Returns the content of a file of results; without runs if it does not exist.

    Raises:
        ValueError: With one sentence, if the file belongs to something else.
    """
    held = files.read_json(path)
    if held and held.get("experiment") != experiment.name:
        raise ValueError(f"{path} holds no results of {experiment.name}: name another --docs.")
    return held or {"experiment": experiment.name, "config": {}, "arms": {}, "runs": []}


def check(held: Mapping[str, Any], path: pathlib.Path, planned: Sequence[Planned]) -> None:
    """Raises `ValueError`, with one sentence, if results are of runs under other flags.

    Args:
        held: The content of a file of results.
        path: Its path.
        planned: All runs of the experiment.
    """
    config = _configs(planned)["config"]
    for key, value in held["config"].items():
        if config.get(key) != value:
            raise ValueError(
                f"{path} holds results with the {key} {value!r} instead of {config.get(key)!r}: "
                "name another folder with --docs."
            )


def update(
    path: pathlib.Path, experiment: Experiment, planned: Sequence[Planned], command: str
) -> dict[str, Any]:
    """Adds the runs that are complete or have diverged to a file of results, and returns it.

    Args:
        path: The file.
        experiment: The experiment.
        planned: All its runs.
        command: The command line that repeats it.
    """
    held = read(path, experiment)
    runs = {(run["arm"], run["case"], run["seed"]): run for run in held["runs"]}
    for run in planned:
        key = (run.arm, run.case, run.seed)
        if (found := _measured(run, experiment)) is not None:
            runs[key] = found
    order = [(run.arm, run.case, run.seed) for run in planned]
    content = {
        "experiment": experiment.name,
        "command": command,
        **_configs(planned),
        "runs": [runs[key] for key in order if key in runs],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1)
    text = re.sub(
        r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text
    )  # one line a curve
    with files.aside(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    return content


def _configs(planned: Sequence[Planned]) -> dict[str, Any]:
    """Returns the fields that all runs share, and for each arm its own."""
    without = MAY_CHANGE | PLACES | {"seed"}
    configs = {
        (run.arm, run.case): {k: v for k, v in vars(run.config).items() if k not in without}
        for run in planned
    }
    first = next(iter(configs.values()))
    common = {k: v for k, v in first.items() if all(c[k] == v for c in configs.values())}
    return {
        "config": common,
        "arms": {
            "-".join(filter(None, key)): {k: v for k, v in config.items() if k not in common}
            for key, config in configs.items()
        },
    }


def _measured(run: Planned, experiment: Experiment) -> dict[str, Any] | None:
    folder = pathlib.Path(run.config.run_dir)
    diverged = files.read_json(folder / DIVERGED).get("step")
    result = files.read_json(folder / "result.json")
    if not result and diverged is None:
        return None
    environment = files.read_json(folder / "environment.json")
    return {
        "arm": run.arm,
        "case": run.case,
        "seed": run.seed,
        "diverged": diverged,
        "steps": result.get("steps"),
        "pflop": result.get("pflop"),
        "test": result.get("test", {}),
        "seconds": round(result.get("seconds", 0)),
        "commit": environment["commit"],
        "processor": environment["processor"],
        "versions": {k: environment["versions"][k] for k in ("keras", "tensorflow")},
        "curves": _curves(folder / "history.csv"),
    }


def _curves(path: pathlib.Path) -> dict[str, list[float]]:
    """Returns the columns of a history, with errors in the place of accuracies."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    curves = {}
    for name in (rows[0] if rows else {}).keys() & _COLUMNS:
        values = [float(row[name]) for row in rows if row[name] != "nan"]  # the speed of one step
        if "accuracy" in name:
            name, values = name.replace("accuracy", "error"), [1 - value for value in values]
        curves[name] = [float(f"{value:.{_DIGITS}g}") for value in values]
    return dict(sorted(curves.items()))
