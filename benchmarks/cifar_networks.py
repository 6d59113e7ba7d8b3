"""Trains the networks of the paper's table at the same compute, and writes the table.

python benchmarks/cifar_networks.py --data_dir DATA_DIR --manual_dir FOLDER

Every network has its own published training, with as many epochs as cost `--pflop`, and its
schedule shortened in proportion. First comes CIFAR-10 with the network's own activation and with
ELU, then CIFAR-100 with the better of the two. A network that could not see all images once is left
out, with a line. `--full NAME` trains a network for its published number of epochs instead.

Rerun a killed command to resume it. Each run writes its result and history to docs/results, as
cifar_networks-NETWORK-DATASET-ACTIVATION-SEED, and the table is docs/results/cifar_networks.csv.
"""

import argparse
import csv
import json
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys

from keras_elu import commands, files
from keras_elu.recipes import cifar_networks

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
NETWORKS = [name for name in cifar_networks.NETWORKS if name != "elu_resnet"]
# Test errors in the paper's table, in percent, for CIFAR-10 and CIFAR-100.
PUBLISHED = {
    "alexnet_cifar": ("18.04", "45.80"),
    "deeply_supervised": ("7.97", "34.57"),
    "network_in_network": ("8.81", "35.68"),
    "maxout": ("9.38", "38.57"),
    "all_cnn": ("7.25", "33.71"),
    "highway": ("7.60", "32.24"),
    "fractional_max_pooling": ("4.50", "27.62"),
    "elu_cifar_11": ("", "28.75"),
    "elu_cifar_18": ("6.55", "24.28"),
}
NOTES = {
    "alexnet_cifar": "uncertain which network the paper means",
    "deeply_supervised": "the value for CIFAR-100 is without augmentation",
    "network_in_network": "the value for CIFAR-100 is without augmentation",
    "maxout": "the value for CIFAR-100 is without augmentation",
    "fractional_max_pooling": "one test pass; the value for CIFAR-100 is without augmentation",
}
COLUMNS = (
    *("network", "dataset", "published_error", "augmentation", "note", "parameters"),
    *("mflop_per_image", "published_pflop", "activation", "epochs", "pflop", "error", "spread"),
    *("seeds", "command"),
)


def row(network: str, dataset: str) -> cifar_networks.Network:
    """Returns the published training."""
    return cifar_networks.NETWORKS[network].for_classes(100 if dataset == "cifar100" else 10)


def cost(network: str, dataset: str, epochs: int) -> float:
    """Returns the PFLOP of a training."""
    published = row(network, dataset)
    return published.pflop * epochs / published.epochs


def epochs(network: str, dataset: str, pflop: float, full: list[str]) -> int:
    """Returns the number of epochs of a run; 0 if it cannot see all images once."""
    published = row(network, dataset)
    return published.epochs if network in full else int(pflop / published.pflop * published.epochs)


def train(network, dataset, activation, seed, count, arguments) -> dict | None:
    """Trains, or returns the result of an earlier run; None if the run failed."""
    name = f"cifar_networks-{network}-{dataset}-{activation}-{count}-{seed}"
    path = RESULTS / f"{name}.json"
    if path.exists():
        return files.read_object(path)
    flags = ["trainers/cifar.py", "--network", network, "--dataset", dataset]
    flags += ["--activation", activation, "--epochs", count, "--seed", seed]
    flags = [*map(str, flags), "--validation_examples", "0"]
    folder = arguments.runs / name
    places = {"data_dir": arguments.data_dir, "manual_dir": arguments.manual_dir}
    own = [f"--{key}={value}" for key, value in places.items() if value]
    print(name, flush=True)
    done = subprocess.run([sys.executable, *flags, *own, "--run_dir", str(folder)], cwd=ROOT)
    if done.returncode == commands.RESUMABLE:
        sys.exit(commands.RESUMABLE)
    if done.returncode:
        return None
    environment = files.read_object(folder / "environment.json")
    result = {
        "command": shlex.join(["python", *flags, "--manual_dir", "FOLDER"]),
        **{key: environment[key] for key in ("commit", "processor", "cores", "versions")},
        **{"network": network, "activation": activation, "seed": seed},
        "pflop": cost(network, dataset, count),
        **files.read_object(folder / "result.json"),
    }
    shutil.copy(folder / "history.csv", RESULTS / f"{name}.csv")
    files.write_json(path, result)
    return result


def error(results: list[dict | None]) -> float:
    """Returns the mean test error in percent; infinite if no run succeeded."""
    errors = [100 * (1 - result["test"]["accuracy"]) for result in results if result]
    return statistics.mean(errors) if errors else float("inf")


def line(network, dataset, activation, results) -> dict:
    """Returns a row of the table."""
    published = row(network, dataset)
    errors = [100 * (1 - result["test"]["accuracy"]) for result in results if result]
    first = next((result for result in results if result), {})
    return {
        "network": network,
        "dataset": dataset,
        "published_error": PUBLISHED[network][dataset == "cifar100"],
        "augmentation": published.augmentation,
        "note": NOTES.get(network, ""),
        "parameters": published.parameters,
        "mflop_per_image": round(2 * published.multiply_accumulates / 1e6, 1),
        "published_pflop": round(published.pflop, 2),
        "activation": activation,
        "epochs": first.get("epochs", ""),
        "pflop": round(first["pflop"], 3) if first else "",
        "error": f"{statistics.mean(errors):.2f}" if errors else "failed",
        "spread": f"{statistics.stdev(errors):.2f}" if len(errors) > 1 else "",
        "seeds": len(errors),
        "command": first.get("command", ""),
    }


def write(lines: list[dict]) -> None:
    """Writes the table."""
    with (
        files.aside(RESULTS / "cifar_networks.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--full", nargs="+", choices=NETWORKS, default=[])
    parser.add_argument("--datasets", nargs="+", choices=("cifar10", "cifar100"))
    parser.add_argument("--pflop", type=float, default=0.5, help="compute of a run (default: .5)")
    parser.add_argument(
        "--seeds", type=int, default=2, metavar="N", help="runs of each (default: 2)"
    )
    parser.add_argument("--data_dir", help="as for trainers/cifar.py")
    parser.add_argument("--manual_dir", help="as for trainers/cifar.py")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/cifar_networks"))
    arguments = parser.parse_args()
    arguments.runs = arguments.runs.resolve()
    datasets = arguments.datasets or ("cifar10", "cifar100")
    lines, found = [], {}
    for dataset in datasets:
        for network in arguments.networks:
            count = epochs(network, dataset, arguments.pflop, arguments.full)
            if not count:
                print(
                    f"{network} on {dataset}: an epoch costs {cost(network, dataset, 1):.2f} PFLOP"
                )
                continue
            own = cifar_networks.NETWORKS[network].activation
            activations = list(dict.fromkeys([own, "elu"]))
            if dataset == "cifar100" and network in found:
                activations = [min(found[network], key=found[network].get)]
            for activation in activations:
                results = [
                    train(network, dataset, activation, seed, count, arguments)
                    for seed in range(arguments.seeds)
                ]
                if dataset == "cifar10":
                    found.setdefault(network, {})[activation] = error(results)
                lines.append(line(network, dataset, activation, results))
                write(lines)
    print(json.dumps(lines, indent=2))


if __name__ == "__main__":
    main()
