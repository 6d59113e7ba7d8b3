"""Everything that only GPUs can show, in one table: what holds, images/s, share of peak, memory.

    make gpu

runs, on all GPUs of this machine, the tests marked gpu, the audit, the doctor, the benchmarks of
layer, step and input, and five minutes of trainers/imagenet_resnet.py on synthetic photographs. The
table goes to the terminal, and as a JSON line to benchmarks/results/gpu.jsonl. The exit code is 0
if every part holds, 1 if one does not, and 2 without a GPU.
"""

import argparse
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.jsonl"
SECONDS = 300  # of training, counted from the end of the first epoch
FIRST_EPOCH = 1800  # seconds in which it must end; XLA compiles in it
BATCH = 256  # images per GPU
CLASSES = 8
DATASET = "photographs_256_raw"
FIGURES = {"images_per_second": "images/s", "share_of_peak": "of peak", "memory": "GiB"}


def cards() -> list[str]:
    """Returns the names of the NVIDIA GPUs that this process may use."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        command.append(f"--id={visible or -1}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return done.stdout.splitlines()


def commands(folder: pathlib.Path, gpus: int, smoke: bool) -> dict[str, list[str]]:
    """Returns the arguments of Python for each part.

    Args:
        folder: For temporary files, with the synthetic photographs.
        gpus: Number of GPUs. The one of a machine is split for the parts that need replicas.
        smoke: Whether everything is small, on two logical CPU devices.
    """
    replicas = max(2, gpus)
    mirrored = ["--strategy", "mirrored", "--batch_size", str(16 * replicas)]
    if gpus < 2:
        mirrored += ["--virtual_devices", "2"]
    small = ["--smoke", "--rounds", "2"] if smoke else []
    tests = ["-m", "pytest", "-m", "gpu", "-q", f"--junitxml={folder / 'tests.xml'}"]
    layers = ["benchmarks/layers.py"]
    steps = ["benchmarks/steps.py", *small]
    inputs = ["benchmarks/input.py", *small]
    if smoke:
        tests += ["tests/gpu"]
        layers += ["--smoke", "--elements", "4096", "--repeats", "1", "--dtypes", "float32"]
        steps += ["--tables", "mlp"]
        inputs += ["--files", "256 raw"]
    return {
        "tests": tests,
        "audit": ["-m", "keras_elu.audit", "trainers/mnist.py", "--dataset", "digits", *mirrored],
        "doctor": ["-m", "keras_elu.doctor", *trainer(folder, gpus, smoke)],
        "layers": layers,
        "steps": steps,
        "input": inputs,
        "training": [
            *trainer(folder, gpus, smoke),
            *("--epochs", "1000", "--steps_per_epoch", "2" if smoke else "50"),
            *("--micro_batches", "auto", "--run_dir", str(folder / "run")),
        ],
    }


def trainer(folder: pathlib.Path, gpus: int, smoke: bool) -> list[str]:
    """Returns the trainer and its flags, except for those of its length."""
    size = "32" if smoke else "224"
    batch_size = 8 if smoke else BATCH * max(1, gpus)
    return [
        "trainers/imagenet_resnet.py",
        *("--dataset", DATASET, "--data_dir", str(folder / "data")),
        *("--strategy", "mirrored" if gpus > 1 else "default"),
        *("--batch_size", str(batch_size), "--steps_per_execution", "1" if smoke else "10"),
        *("--image_size", size, "--first_size", size, "--last_size", size),
    ]


def prepare_photographs(folder: pathlib.Path, count: int) -> None:
    """Writes synthetic photographs by class, and prepares them as a data set of raw pixels."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for split, images in {"train": count, "val": max(CLASSES, count // 8)}.items():
        for number in range(images):
            path = folder / "source" / split / f"class_{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = random.integers(0, 256, (8, 10, 3), "uint8")
            Image.fromarray(coarse).resize((340, 256), Image.Resampling.BICUBIC).save(path)
    command = ["-m", "keras_elu.prepare", str(folder / "source"), str(folder / "data")]
    options = ["--name", DATASET.partition("_")[0], "--resize", "256", "--raw"]
    subprocess.run([sys.executable, *command, *options], cwd=ROOT, check=True)


def train(command: list[str], run: pathlib.Path, seconds: float) -> int:
    """Trains for some time after the first epoch, and stops the run as a user does, with SIGTERM.

    Returns:
        0 if the run was saved when it was stopped, or has ended; otherwise its exit code.
    """
    history = run / "history.csv"
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        end = time.monotonic() + FIRST_EPOCH
        while process.poll() is None and time.monotonic() < end and not history.exists():
            time.sleep(0.5)
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    code = process.wait()
    return 0 if code == os.EX_TEMPFAIL else code


def trained_figures(run: pathlib.Path) -> dict[str, float]:
    """Returns images/s, share of peak and memory in GiB, as far as the run has measured them."""
    found = {}
    if (run / "history.csv").exists():
        with (run / "history.csv").open(newline="") as file:
            rates = [float(row["images_per_second"]) for row in csv.DictReader(file)]
        rates = [rate for rate in rates if rate == rate]  # NaN before the second execution
        if rates:
            found["images_per_second"] = statistics.median(rates)
    tags = {"share_of_peak": "speed/peak_flops_share", "memory": "speed/device_memory_gib"}
    return found | {
        name: statistics.median(values)
        for name, tag in tags.items()
        if (values := logged(run / "tensorboard" / "train", tag))
    }


def logged(folder: pathlib.Path, tag: str) -> list[float]:
    """Returns the values of a scalar in TensorBoard's logs."""
    import tensorflow as tf
    from tensorboard.backend.event_processing import event_accumulator

    if not folder.exists():
        return []
    read = event_accumulator.EventAccumulator(str(folder), {"tensors": 0}).Reload()
    if tag not in read.Tags()["tensors"]:
        return []
    return [float(tf.make_ndarray(event.tensor_proto)) for event in read.Tensors(tag)]


def tested_figures(report: pathlib.Path) -> dict[str, int]:
    """Returns how many tests passed, failed and were skipped."""
    if not report.exists():
        return {}
    suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite").attrib
    failed = int(suite["failures"]) + int(suite["errors"])
    skipped = int(suite["skipped"])
    return {
        "passed": int(suite["tests"]) - failed - skipped,
        "failed": failed,
        "skipped": skipped,
    }


def table(rows: list[dict]) -> str:
    """Returns the rows as aligned lines."""
    lines = [f"{'':<10}{'':<20}{'s':>7}{''.join(f'{head:>10}' for head in FIGURES.values())}"]
    for row in rows:
        line = f"{row['part']:<10}{verdict(row):<20}{row['seconds']:>7.0f}"
        for name in FIGURES:
            value = row["figures"].get(name)
            text = "" if value is None else f"{value:.0%}" if "share" in name else f"{value:,.1f}"
            line += f"{text:>10}"
        counts = [f"{row['figures'][k]} {k}" for k in ("passed", "failed", "skipped")
                  if row["figures"].get(k)]  # fmt: skip
        lines.append(f"{line}  {', '.join(counts)}".rstrip())
    return "\n".join(lines)


def verdict(row: dict) -> str:
    return "holds" if row["code"] == 0 else f"ended with {row['code']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look for a GPU")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these parts")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="everything small, on two logical CPU devices; print the JSON line, append nothing",
    )
    options = parser.parse_args()
    found = [] if options.smoke else cards()
    if not found and not options.smoke:
        print("error: this machine has no NVIDIA GPU that nvidia-smi sees.", file=sys.stderr)
        return 2
    if options.check:
        return 0
    os.environ["KERAS_ELU_TEST_DEVICES"] = "cpu" if options.smoke else "gpu"
    if options.smoke:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(pathlib.Path(folder), len(found), options.smoke, options.parts)
    print(f"\n{', '.join(found) or 'logical CPU devices'}\n{table(rows)}", flush=True)

    from keras_elu import environment  # now that no part needs the memory of the GPUs

    record = environment.describe() | {"benchmark": "gpu", "cards": found, "rows": rows}
    if options.smoke:
        print(json.dumps(record))
    else:
        environment.append(RESULTS, record)
    return int(any(row["code"] for row in rows))


def measure(folder: pathlib.Path, gpus: int, smoke: bool, parts: list[str] | None) -> list[dict]:
    """Runs the parts one after the other, and returns a row for each."""
    chosen = commands(folder, gpus, smoke)
    unknown = set(parts or ()) - set(chosen)
    if unknown:
        sys.exit(f"error: there is no part {min(unknown)}: choose from {', '.join(chosen)}.")
    chosen = {name: chosen[name] for name in parts or chosen}
    if {"doctor", "training"} & set(chosen):
        prepare_photographs(folder, 32 if smoke else max(2048, 2 * BATCH * gpus))
    rows = []
    for name, arguments in chosen.items():
        print(f"\n{name}: python {' '.join(arguments)}", flush=True)
        begin, command = time.monotonic(), [sys.executable, *arguments]
        if name == "training":
            code = train(command, folder / "run", 5 if smoke else SECONDS)
        else:
            code = subprocess.run(command, cwd=ROOT).returncode
        seconds = time.monotonic() - begin
        figures = {}
        if name == "training":
            figures = trained_figures(folder / "run")
        elif name == "tests":
            figures = tested_figures(folder / "tests.xml")
        rows.append({"part": name, "code": code, "seconds": seconds, "figures": figures})
    return rows


if __name__ == "__main__":
    sys.exit(main())
