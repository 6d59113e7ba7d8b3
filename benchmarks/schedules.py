"""Compares the best schedules of searches, and the default, on new seeds.

python benchmarks/schedules.py mnist runs/tuning-mnist-digits-both --seeds 5

A search chooses the best of many trials by a few seeds and one held-out set, so that its own number
is too good. Here the best configuration of every search, and the default, which is the first trial
of the first search, are trained with seeds that no search has used. A folder may also be that of a
run, such as one without a part of the schedule. Prints the differences of every pair, and appends a
JSON line to benchmarks/results/schedules.jsonl.
"""

import argparse
import concurrent.futures
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import tqdm

from keras_elu import commands, environment

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "schedules.jsonl"
FIRST_SEED = 1001


def train(recipe: str, config: pathlib.Path, seed: int, folder: pathlib.Path) -> dict | None:
    """Trains with a seed, and returns the result; None if the run failed."""
    script = ROOT / "trainers" / f"{recipe}.py"
    flags = ["--config", config, "--seed", seed, "--run_dir", folder]
    command = [sys.executable, script, *flags]
    subprocess.run(map(str, command), capture_output=True, check=False)
    result = folder / "result.json"
    return json.loads(result.read_text()) if result.exists() else None


def read(config: pathlib.Path) -> dict:
    """Returns a configuration, without the folders of the data on this machine."""
    held = json.loads(config.read_text())
    return {key: value for key, value in held.items() if key not in ("data_dir", "manual_dir")}


def show(results: dict[str, list[dict | None]]) -> None:
    """Prints the losses of every seed, and the differences of every pair of configurations.

    The p-value is that of Wilcoxon's signed-rank test over the seeds for which both runs succeeded.
    """
    import scipy.stats

    for split in ("validation", "test"):
        print(f"{split} loss")
        losses = {name: [r and r[split]["loss"] for r in of] for name, of in results.items()}
        for name, values in losses.items():
            print(f"  {name:<40}", *(f"{v:.4f}" if v else "failed" for v in values))
        for (one, first), (other, second) in itertools.combinations(losses.items(), 2):
            pairs = zip(second, first, strict=True)
            differences = [a - b for a, b in pairs if a is not None and b is not None]
            if len(differences) < 2:
                continue
            mean, spread = statistics.mean(differences), statistics.stdev(differences)
            lower, p = sum(d < 0 for d in differences), scipy.stats.wilcoxon(differences).pvalue
            print(
                f"  {other} minus {one}: mean {mean:+.4f}, standard deviation {spread:.4f}, lower "
                f"{lower} of {len(differences)}, p {p:.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="recipe, such as mnist")
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders of searches or runs")
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="number of seeds (default: 5)"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)"
    )
    arguments = parser.parse_args()
    try:
        commands.require("scipy", extra="tuning")
    except ValueError as error:
        parser.error(str(error))
    best, own = "best.json", "config.json"  # in the folder of a search, and in that of a run
    configs = {f.name: f / (best if (f / best).exists() else own) for f in arguments.folders}
    for folder in (path.parent for path in configs.values() if not path.exists()):
        parser.error(f"{folder} contains neither the {best} of a search nor the {own} of a run.")
    if trials := sorted((arguments.folders[0] / "trials").glob("*/config.json")):
        configs = {"default": trials[0]} | configs
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    with (
        tempfile.TemporaryDirectory() as home,
        concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool,
    ):
        futures = {
            (name, seed): pool.submit(
                train, arguments.recipe, config, seed, pathlib.Path(home, f"{name}-{seed}")
            )
            for seed in seeds
            for name, config in configs.items()
        }
        for _ in tqdm.tqdm(concurrent.futures.as_completed(futures.values()), total=len(futures)):
            pass
    results = {key: future.result() for key, future in futures.items()}
    line = {
        "recipe": arguments.recipe,
        "configs": {name: read(path) for name, path in configs.items()},
        "seeds": list(seeds),
        "results": {name: [results[name, seed] for seed in seeds] for name in configs},
        "environment": environment.describe(),
    }
    show(line["results"])
    environment.append(RESULTS, line)


if __name__ == "__main__":
    main()
