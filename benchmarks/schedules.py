"""Trains what searches found, and the default, with fresh seeds, and compares them seed by seed.

python benchmarks/schedules.py mnist runs/tuning-mnist-digits-both --seeds 5

A search chooses the best of many on few seeds and the same held-out images, so that its own number
flatters it. Here the configuration of every search, and that of the first one's first trial, which
is the default, are trained with seeds that no search has used. A folder may be that of a run
instead, by which a part of what was found can be left out. Prints how each two differ, and appends
a JSON line to benchmarks/results/schedules.jsonl.
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

import scipy.stats
import tqdm

from keras_elu import environment

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "schedules.jsonl"
FIRST_SEED = 1001


def train(recipe: str, config: pathlib.Path, seed: int, folder: pathlib.Path) -> dict | None:
    """Returns the result of a run; None if it failed."""
    script = ROOT / "trainers" / f"{recipe}.py"
    flags = ["--config", config, "--seed", seed, "--run_dir", folder]
    command = [sys.executable, script, *flags]
    subprocess.run(map(str, command), capture_output=True, check=False)
    result = folder / "result.json"
    return json.loads(result.read_text()) if result.exists() else None


def settings(config: pathlib.Path) -> dict:
    """Returns a configuration, without the folders of the data, which are a machine's own."""
    held = json.loads(config.read_text())
    return {key: value for key, value in held.items() if key not in ("data_dir", "manual_dir")}


def show(results: dict[str, list[dict | None]]) -> None:
    """Prints the losses of every seed, and how each two configurations differ.

    The p is that of Wilcoxon's signed-rank test, over the seeds with which both were trained.
    """
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
    parser.add_argument("recipe", help="such as mnist")
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="of searches or of runs")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at once (default: 1)")
    asked = parser.parse_args()
    best, own = "best.json", "config.json"  # of a search, and of a run
    configs = {f.name: f / (best if (f / best).exists() else own) for f in asked.folders}
    for folder in (path.parent for path in configs.values() if not path.exists()):
        parser.error(f"{folder} holds neither the {best} of a search nor the {own} of a run.")
    if trials := sorted((asked.folders[0] / "trials").glob("*/config.json")):
        configs = {"default": trials[0]} | configs
    seeds = range(FIRST_SEED, FIRST_SEED + asked.seeds)
    with (
        tempfile.TemporaryDirectory() as home,
        concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool,
    ):
        futures = {
            (name, seed): pool.submit(
                train, asked.recipe, config, seed, pathlib.Path(home, f"{name}-{seed}")
            )
            for seed in seeds
            for name, config in configs.items()
        }
        for _ in tqdm.tqdm(concurrent.futures.as_completed(futures.values()), total=len(futures)):
            pass
    results = {key: future.result() for key, future in futures.items()}
    line = {
        "recipe": asked.recipe,
        "configs": {name: settings(path) for name, path in configs.items()},
        "seeds": list(seeds),
        "results": {name: [results[name, seed] for seed in seeds] for name in configs},
        "environment": environment.describe(),
    }
    show(line["results"])
    environment.append(RESULTS, line)


if __name__ == "__main__":
    main()
