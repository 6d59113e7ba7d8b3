"""One training step: DistributedModel against stock Keras and PyTorch.

    python benchmarks/steps.py
    python benchmarks/steps.py --tables cost --rounds 100

prints a table for each network and precision, and appends it as a JSON line to
benchmarks/results/steps.jsonl. The table "cost" compares only DistributedModel and stock Keras, so
that it has time for many rounds, and "deterministic" a trainer's --deterministic with its default.

A step is forward, loss, backward and SGD with momentum, on one batch in memory. Each contestant has
a process of its own. They take turns, one step at a time if a step is long, so that one computes
while the others wait. Keras runs a single `fit`, which waits between the turns: neither compilation
nor the start of `fit` counts.

The limit is the faster of a matrix product and a convolution, measured in the same turns. The
floating-point operations of a step are those of its convolutions and dense layers, forward and
backward. Ratios compare wall time, and processor time of all threads, with the faster of stock
Keras with and without XLA. They are medians over the rounds, in which both contestants ran within
seconds of each other, with a distribution-free 95% confidence interval. A second process of stock
Keras shows the noise.
"""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import statistics

import tqdm
from steps_contestants import NETWORKS, OPERATIONS, plan
from steps_processes import Contestant

RESULTS = pathlib.Path(__file__).parent / "results" / "steps.jsonl"
TURN = {"mlp": 160, "cifar": 1, "imagenet_half": 1}  # steps
UNTIMED = 2  # rounds; the first one compiles
LIFE = 25  # rounds before all processes restart: the addresses of its memory can slow one down
OURS, STOCK = "DistributedModel", "keras.Model"


def contestants():
    """Returns the contestants of each table, network and precision: their kinds and arguments."""
    stock, xla = {"stock": True, "jit_compile": False}, {"jit_compile": True}
    limits = {
        "limit: matrix product": ("limit", {"of": "product"}),
        "limit: convolution": ("limit", {"of": "convolution"}),
    }
    both = {
        OURS: ("keras", {}),
        STOCK: ("keras", stock),
        f"{STOCK}, XLA": ("keras", stock | xla),
    }
    torch = {
        "PyTorch": ("torch", {}),
        "PyTorch, channels_last": ("torch", {"channels_last": True}),
    }
    cifar = {
        **both,
        f"{OURS}, XLA": ("keras", xla),
        f"{OURS}, 4 micro-batches": ("keras", {"micro_batches": 4}),
        f"{STOCK}, keras.layers.ELU": ("keras", stock | {"activation": "keras"}),
        **torch,
    }
    if shutil.which("c++") or shutil.which("g++"):
        cifar["PyTorch, torch.compile"] = ("torch", {"channels_last": True, "compiled": True})
    mlp = {
        **both,
        f"{OURS}, no XLA": ("keras", {"jit_compile": False}),
        f"{OURS}, 32 an execution": ("keras", {"steps_per_execution": 32}),
        f"{STOCK}, XLA, 32 an execution": ("keras", stock | xla | {"steps_per_execution": 32}),
    }
    scaling = {
        "1 replica, 2 cores": ("keras", {}),
        "2 replicas, mirrored": ("keras", {"strategy": "mirrored"}),
        "2 replicas, workers": ("keras", {"strategy": "multiworker"}),
    }
    cost = {
        OURS: ("keras", {}),
        STOCK: ("keras", stock),
        f"{STOCK}, again": ("keras", stock),
    }
    dense_cost = cost | {
        f"{STOCK}, XLA": ("keras", stock | xla),
        f"{STOCK}, XLA, again": ("keras", stock | xla),
    }
    deterministic = {
        OURS: ("keras", {}),
        f"{OURS}, again": ("keras", {}),
        f"{OURS}, --deterministic": ("keras", {"deterministic": True}),
    }
    return {
        ("mlp", "mlp", "float32"): mlp,
        ("cifar", "cifar", "float32"): cifar | limits,
        ("cifar", "cifar", "mixed_bfloat16"): cifar | limits,
        ("imagenet_half", "imagenet_half", "float32"): both | torch | limits,
        ("imagenet_half", "imagenet_half", "mixed_bfloat16"): both | torch | limits,
        ("scaling", "cifar", "float32"): scaling,
        ("deterministic", "mlp", "float32"): deterministic,
        ("deterministic", "cifar", "float32"): deterministic,
        ("cost", "mlp", "float32"): dense_cost,
        ("cost", "mlp", "mixed_bfloat16"): dense_cost,
        ("cost", "cifar", "float32"): cost,
        ("cost", "cifar", "mixed_bfloat16"): cost,
        ("cost", "imagenet_half", "float32"): cost,
        ("cost", "imagenet_half", "mixed_bfloat16"): cost,
    }


def start(network, precision, batch, taking_part, layers, environment):
    """Starts the contestants, and returns them once they are ready."""
    running = {}
    for name, (kind, arguments) in taking_part.items():
        common = {"network": network, "precision": precision, "batch": batch}
        common |= {"layers": layers} if kind == "torch" else {}
        running[name] = Contestant(kind, common | arguments, environment)
    for contestant in running.values():
        contestant.wait()
    return running


def measure(table, network, precision, taking_part, rounds, smoke):
    """Returns a row for each contestant: seconds per step in every round, and memory."""
    layers, operations = plan(network)
    batch = 2 if smoke else NETWORKS[network][-1]
    environment = {"CUDA_VISIBLE_DEVICES": "-1"} if table == "scaling" else {}
    rows = {
        name: {
            "seconds": [],
            "processor seconds": [],
            "images": 0 if kind == "limit" else batch,
            "operations": OPERATIONS[arguments["of"]] if kind == "limit" else batch * operations,
            "peak memory": 0,
        }
        for name, (kind, arguments) in taking_part.items()
    }
    steps = 32 if smoke and network == "mlp" else TURN[network]
    progress = tqdm.tqdm(total=rounds, desc=f"{table} {network} {precision}", disable=None)
    for first in range(0, rounds, LIFE):
        running = start(network, precision, batch, taking_part, layers, environment)
        for i in range(-UNTIMED, min(LIFE, rounds - first)):
            for name in random.sample(list(running), len(running)):
                wall, processor = zip(*running[name].ask(steps), strict=True)
                if i >= 0:
                    rows[name]["seconds"].append(max(wall))
                    rows[name]["processor seconds"].append(sum(processor))
            progress.update(i >= 0)
        for name, contestant in running.items():
            peak = sum(contestant.ask(0))
            rows[name]["peak memory"] = max(rows[name]["peak memory"], peak)
    progress.close()
    return rows


def report(table, network, precision, rows):
    first = next(iter(rows.values()))
    print(
        f"\n{table}, {network}, {precision}: batch {first['images']}, "
        f"{first['operations'] / 1e9:.1f} GFLOP a step; milliseconds: median [min, max]; ratios: "
        "median [95% confidence]"
    )
    peers = [row for name, row in rows.items() if name in (STOCK, f"{STOCK}, XLA")]
    peer = min(peers or [first], key=lambda row: statistics.median(row["seconds"]))
    compared = "to stock" if peers else "to the first"
    print(
        f"{'':<34}{'a step':<20}{'images/s':>10}{compared:>24}{'processor':>24}{'GFLOP/s':>9}"
        f"{'of limit':>10}{'peak GB':>9}"
    )
    limits = [row for row in rows.values() if not row["images"]]
    limit = max((row["operations"] / min(row["seconds"]) for row in limits), default=None)
    for name, row in rows.items():
        median = statistics.median(row["seconds"])
        line = f"{name:<34}{spread(row['seconds']):<20}"
        if row["images"]:
            line += f"{row['images'] / median:>10,.1f}"
            line += f"{ratio(row, peer, 'seconds'):>24}{ratio(row, peer, 'processor seconds'):>24}"
        else:
            line += f"{'':>58}"
        rate = row["operations"] / (median if row["images"] else min(row["seconds"]))
        line += f"{rate / 1e9:>9,.0f}"
        line += f"{rate / limit:>10.0%}" if limit else f"{'':>10}"
        print(f"{line}{row['peak memory'] / 1e9:>9.2f}")
    if table == "cifar" and "PyTorch, torch.compile" not in rows:
        print("torch.compile is left out: it needs a C++ compiler, and none is installed.")


def ratio(row, peer, key):
    """Returns the median ratio over the rounds, and its 95% confidence interval."""
    ratios = sorted(a / b for a, b in zip(row[key], peer[key], strict=True))
    low, high = interval(len(ratios))
    return f"{statistics.median(ratios):.3f} [{ratios[low]:.3f}, {ratios[high]:.3f}]"


def interval(count):
    """Returns the indices of the sorted values that bound their median with 95% confidence.

    Each value is below the true median with probability 1/2. Fewer than 6 values have no such
    bounds; then the indices are those of the smallest and the largest value.
    """
    low, below = 0, 0.5**count  # the probability that at most `low` values are below the median
    while below <= 0.025:
        low += 1
        below += math.comb(count, low) / 2**count
    low = max(0, low - 1)
    return low, count - 1 - low


def spread(seconds):
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    digits = 3 if middle < 10 else 0
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main():
    tables = contestants()
    names = list(dict.fromkeys(table for table, _, _ in tables))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant")
    parser.add_argument(
        "--smoke", action="store_true", help="batches of 2; print the JSON lines, append nothing"
    )
    arguments = parser.parse_args()

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # the contestants share a GPU
    # Keras would warn of a data set that it cannot shuffle, PyTorch of kernels of an even size.
    os.environ["PYTHONWARNINGS"] = "ignore"
    from keras_elu import environment

    for (table, network, precision), taking_part in tables.items():
        if table not in arguments.tables:
            continue
        measured = table, network, precision
        rows = measure(*measured, taking_part, arguments.rounds, arguments.smoke)
        report(*measured, rows)
        record = environment.describe() | {
            "benchmark": "steps",
            "table": table,
            "network": network,
            "precision": precision,
            "rows": [{"contestant": name} | row for name, row in rows.items()],
        }
        if arguments.smoke:
            print(json.dumps(record))
        else:
            environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
