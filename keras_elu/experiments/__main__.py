"""Repeats a comparison of the paper: trains what is missing, and draws the figure.

python -m keras_elu.experiments mnist
python -m keras_elu.experiments cifar100 --manual_dir FOLDER --epochs 330
python -m keras_elu.experiments mnist --draw

The results are in DOCS/results/NAME.json, the figure in DOCS/experiment_NAME.png, and a section in
DOCS/results.md. Further flags are those of the trainer, for all runs. Every run has a folder of its
own; rerun a stopped or killed command to resume it.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

from keras_elu import commands
from keras_elu.experiments import results, running, tables
from keras_elu.experiments.experiment import Experiment, Planned, plan
from keras_elu.training import Stopped
from keras_elu.training.signals import StopSignals

MODULE = "keras_elu.experiments"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an experiment and returns its exit code.

    It is 0 if the results are written, 1 if a run failed, 2 for a wrong command line, and 75 if a
    signal stopped the experiment after the current run was saved.

    Args:
        arguments: The command line. None: the process's own.
    """
    stop = StopSignals()
    try:
        options, flags = _parse(arguments)
        experiment = tables.EXPERIMENTS[options.name]
        planned = plan(experiment, flags, str(options.runs))
        wanted = _wanted(planned, options.arms, options.seeds)
        commands.require("matplotlib", extra="plots")
        path = options.docs / "results" / f"{experiment.name}.json"
        held = results.read(path, experiment)
        if not options.draw:
            results.check(held, path, planned)
            command = shlex.join(["python", "-m", MODULE, experiment.name, *_without_places(flags)])

            def store(run: Planned) -> None:
                results.update(path, experiment, planned, command)

            with stop.handled():
                running.train(wanted, experiment, store, stop)
            held = results.update(path, experiment, planned, command)
        if not held["runs"]:
            raise ValueError(f"{path} holds no results yet: run the command without --draw first.")
        draw(experiment, held, options.docs)
    except Stopped as stopped:
        print(f"{stopped} Rerun the same command to resume.", file=sys.stderr)
        return commands.RESUMABLE
    except (OSError, ValueError) as error:
        return commands.failure(error)
    print(f"The results are in {path}, and in {options.docs / 'results.md'}.")
    return 0


def draw(experiment: Experiment, held: dict, docs: pathlib.Path) -> None:
    """Draws the figure of an experiment and writes its section, from its results alone."""
    from keras_elu.experiments import figures, page

    figures.draw(experiment, held["runs"], docs / f"experiment_{experiment.name}.png")
    page.write(docs / "results.md", experiment, held)


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = commands.Parser(MODULE, __doc__)
    parser.add_argument("name", choices=tables.EXPERIMENTS, metavar="NAME", help="the experiment")
    parser.add_argument(
        "--arms", type=_names, metavar="A,B", help="train only these arms (default: all)"
    )
    parser.add_argument(
        "--seeds", type=_numbers, metavar="0,1", help="train only these seeds (default: all)"
    )
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        default=pathlib.Path("runs", "experiments"),
        metavar="FOLDER",
        help="folder for the run folders (default: runs/experiments)",
    )
    parser.add_argument(
        "--docs",
        type=pathlib.Path,
        default=pathlib.Path("docs"),
        metavar="FOLDER",
        help="folder for results, figure and page (default: docs)",
    )
    parser.add_argument(
        "--draw", action="store_true", help="only draw what is in the file of results"
    )
    return parser.parse_known_args(arguments)


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _wanted(planned: Sequence[Planned], arms, seeds) -> list[Planned]:
    """Returns the chosen runs."""
    for flag, chosen, field in (("--arms", arms, "arm"), ("--seeds", seeds, "seed")):
        known = list(dict.fromkeys(getattr(run, field) for run in planned))
        if unknown := [value for value in chosen or [] if value not in known]:
            raise ValueError(
                f"{flag} {unknown[0]} is not in this experiment: choose from "
                f"{', '.join(map(str, known))}."
            )
    return [
        run
        for run in planned
        if (arms is None or run.arm in arms) and (seeds is None or run.seed in seeds)
    ]


def _without_places(flags: Sequence[str]) -> list[str]:
    """Returns flags with FOLDER in the place of the folders of this machine."""
    result, hide = [], False
    for flag in flags:
        name, equals, _ = flag.partition("=")
        folder = name.lstrip("-").replace("-", "_") in ("data_dir", "manual_dir")
        result.append(f"{name}=FOLDER" if folder and equals else "FOLDER" if hide else flag)
        hide = folder and not equals
    return result


if __name__ == "__main__":
    sys.exit(main())
