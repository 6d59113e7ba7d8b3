"""Training images per core and second: this package's input pipeline against its peers.

    KERAS_ELU_DATA=FOLDER python benchmarks/input.py

prints a table and appends it as a JSON line to benchmarks/results/input.jsonl. The photographs are
those of FOLDER/imagenet_sample; without KERAS_ELU_DATA, two of scikit-learn's.

Every contestant yields batches of 224 x 224 pixels: random resized crops, half of them mirrored.
The files are the original photographs, photographs with 256 pixels on the shorter side, and the raw
pixels of the latter. The peers are

* tf.data as in TensorFlow's Model Garden and the flax examples: TFRecord files, decoding of the
  crop alone, resizing, normalization; and the same without normalization, which an accelerator can
  do, as in all other contestants,
* PyTorch's DataLoader with Pillow and torchvision's transforms,
* keras.utils.image_dataset_from_directory, which resizes whole photographs instead of crops.

The limit is libjpeg-turbo on all cores, decoding whole files and doing nothing else.

Each contestant has a process of its own. They take turns, so that one computes while the others
wait. The time is the processor time of all threads and child processes, user and system. It counts
from one moment with full read-ahead buffers to the next, so that the contestant makes as many
images as it yields. Ratios are medians over the rounds.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import tqdm
from input_contestants import BATCH, KINDS, LIMITS, OURS, PEERS

RESULTS = pathlib.Path(__file__).parent / "results" / "input.jsonl"
TURN = 20  # timed batches, after as many untimed ones
SETS = {"whole": "photographs", "256": "photographs_256", "256 raw": "photographs_256_raw"}
OPTIONS = {"whole": [], "256": ["--resize", "256"], "256 raw": ["--resize", "256", "--raw"]}


def core_seconds():
    """Returns the processor time of this process and its children."""
    clocks = [
        (~child.pid << 3) | 2 for child in multiprocessing.active_children()
    ]  # as clock_getcpuclockid of glibc does
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def settle():
    """Waits until this process and its children are idle, and returns `core_seconds`."""
    before = core_seconds()
    for _ in range(400):
        time.sleep(0.05)
        now = core_seconds()
        if now - before < 0.002:
            break
        before = now
    return now


def memory():
    """Returns the memory of this process and its children in bytes; shared pages count once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    texts = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(1024 * int(text.split("Pss:")[1].split()[0]) for text in texts)


def turn(batches, count):
    """Takes batches, and returns the processor and wall-clock seconds per image."""
    begin = settle()
    for _ in range(count):
        next(batches)
    since = time.perf_counter()
    for _ in range(count):
        next(batches)
    elapsed = time.perf_counter() - since
    return (settle() - begin) / (2 * count * BATCH), elapsed / (count * BATCH)


def serve(pipe, kind, *where):
    """Takes a turn for each request of the parent, and answers with its times and the memory."""
    batches = KINDS[kind](*where)
    pipe.send(next(batches) and "ready")
    try:
        while count := pipe.recv():
            pipe.send((*turn(batches, count), memory()))
    except EOFError:
        pass
    pipe.close()
    os._exit(0)  # threads that read ahead would keep running


def photographs(folder):
    """Fills a folder with a folder of photographs per class; returns the origin of the photographs.

    Their number is a multiple of the batch size, so that all contestants have the same epochs.
    """
    real = os.environ.get("KERAS_ELU_DATA")
    if real:
        paths = sorted((pathlib.Path(real) / "imagenet_sample").iterdir())
        origin = "imagenet_sample"
    else:
        import sklearn.datasets

        found = pathlib.Path(sklearn.datasets.__file__).parent / "images"
        paths = sorted(found.glob("*.jpg")) * (BATCH // 2)
        origin = "scikit-learn"
    for number, path in enumerate(paths[: len(paths) - len(paths) % BATCH]):
        place = folder / "train" / path.stem.partition("_")[0] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copytree(place.parent, folder / "val" / place.parent.name)
    return origin


def prepare(folder, files):
    """Prepares the data sets, and writes their images as files for the peers."""
    import tensorflow as tf

    from keras_elu.prepare.__main__ import main

    for each in files:
        command = [str(folder / "source"), str(folder / "data"), "--name", "photographs"]
        if main([*command, *OPTIONS[each]]):
            sys.exit("The photographs cannot be prepared.")
        if each == "256 raw":
            continue
        records = sorted(map(str, (folder / "data" / SETS[each]).glob("*/*-train.tfrecord*")))
        for number, record in enumerate(tf.data.TFRecordDataset(records)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            (label,) = features["label"].int64_list.value
            path = folder / SETS[each] / f"{label:04}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(features["image"].bytes_list.value[0])


def measure(folder, taking_part, rounds, count):
    """Returns a row for each contestant, with the seconds per image in every round."""
    context = multiprocessing.get_context("spawn")
    pipes, rows = [], []
    for kind, files in taking_part:
        pipe, theirs = context.Pipe()
        where = str(folder / "data"), str(folder / SETS[files]), SETS[files]
        context.Process(target=serve, args=(theirs, kind, *where)).start()
        theirs.close()  # so that the parent notices if the process dies
        pipes.append(pipe)
        rows.append({"contestant": kind, "files": files, "core seconds": [], "seconds": []})
    for pipe in pipes:
        pipe.recv()
    for number in tqdm.trange(1 + rounds, disable=None):
        for pipe, row in zip(pipes, rows, strict=True):
            pipe.send(count)
            core, clock, row["memory"] = pipe.recv()
            if number:  # in the first round tf.data still tunes its read-ahead
                row["core seconds"].append(core)
                row["seconds"].append(clock)
    for pipe in pipes:
        pipe.send(0)
    return rows


def ratio(row, others):
    """Returns the speed as a multiple of the fastest of the others."""
    if not others:
        return None
    other = min(others, key=lambda row: statistics.median(row["core seconds"]))
    pairs = zip(other["core seconds"], row["core seconds"], strict=True)
    return statistics.median(b / a for b, a in pairs)


def report(rows):
    limits = [row for row in rows if row["contestant"] in LIMITS]
    peers = [row for row in rows if row["contestant"] in PEERS]
    print(f"\n{'images per core and second':<50}{'of decoding':>13}{'to the best peer':>21}")
    print(f"{'':<39}{'median [min, max]':<22}{'alone':>6}{'same files':>13}{'whole':>8}", end="")
    print(f"{'images/s':>10}{'GB':>6}")
    for row in rows:
        same = [
            [other for other in some if other["files"] == row["files"]] for some in (limits, peers)
        ]
        whole = [other for other in peers if other["files"] == "whole"]
        share, *ratios = (ratio(row, others) for others in (*same, whole))
        rates = [1 / seconds for seconds in row["core seconds"]]
        spread = f"{statistics.median(rates):,.0f} [{min(rates):,.0f}, {max(rates):,.0f}]"
        line = f"{row['files']:<9}{row['contestant']:<30}{spread:<22}"
        line += f"{share:>6.0%}" if share else f"{'':>6}"
        for width, value in zip((13, 8), ratios, strict=True):
            line += f"{value:>{width - 1}.2f}x" if value else " " * width
        line += f"{1 / statistics.median(row['seconds']):>10,.0f}{row['memory'] / 1e9:>6.2f}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="turns of 2 batches; print the JSON line, append nothing",
    )
    arguments = parser.parse_args()

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from keras_elu import environment

    taking_part = [
        (kind, files)
        for files in arguments.files
        for kind in ((OURS,) if files == "256 raw" else (*LIMITS, OURS, *PEERS))
    ]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        origin = photographs(folder / "source")
        prepare(folder, arguments.files)
        rows = measure(folder, taking_part, arguments.rounds, 2 if arguments.smoke else TURN)
    report(rows)
    record = environment.describe() | {
        "benchmark": "input",
        "photographs": origin,
        "batch": BATCH,
        "rows": rows,
    }
    if arguments.smoke:
        print(json.dumps(record))
    else:
        environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
