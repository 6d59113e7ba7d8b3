"""Pictures per second: keras_elu.predict against the input pipeline alone, on the same photographs.

    KERAS_ELU_DATA=FOLDER python benchmarks/predict.py

prints a table and appends it to benchmarks/results/predict.jsonl. The photographs are
those of FOLDER/imagenet_sample; without KERAS_ELU_DATA, two of scikit-learn's.

The pipeline yields the evaluation images of a data set of 1,000 photographs. Predicting reads the
same photographs from files, and passes them through a small network: a convolution of 8 x 8 pixels,
an average, and two logits, of 2.4 million floating-point operations for 224 x 224 pixels, and 0.2
million for 64 x 64. The network alone gets one batch again and again. The three take turns, with
batches of one size. The processor time is that of all threads. Where decoding keeps all cores
busy, predicting cannot be faster than the pipeline and the network in turn.
"""

import argparse
import os
import pathlib
import resource
import shutil
import statistics
import sys
import tempfile
import time

PHOTOGRAPHS = 1000
SIZES = 64, 224  # height and width of the network's images
BATCH = 32
RESULTS = pathlib.Path(__file__).parent / "results" / "predict.jsonl"


def photographs(folder):
    """Fills a folder with 1,000 photographs; returns their origin."""
    real = os.environ.get("KERAS_ELU_DATA")
    if real:
        paths, origin = (
            sorted((pathlib.Path(real) / "imagenet_sample").iterdir()),
            "imagenet_sample",
        )
    else:
        import sklearn.datasets

        found = pathlib.Path(sklearn.datasets.__file__).parent / "images"
        paths, origin = sorted(found.glob("*.jpg")), "scikit-learn"
    for number in range(PHOTOGRAPHS):
        place = folder / "val" / "a" / f"{number:04}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths[number % len(paths)], place)
    shutil.copytree(folder / "val" / "a", folder / "train" / "a")
    shutil.copytree(folder / "val" / "a", folder / "train" / "b")
    return origin


def network(size):
    """Returns a small classifier of photographs of a size."""
    import keras

    from keras_elu import models
    from keras_elu.data import crops

    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(8, 8, strides=8, activation="elu")(x)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    return models.Classifier(
        inputs, x, class_names=["a", "b"], image_size=(size, size), crop=crops.SHARE
    )


def timed(act):
    """Returns the seconds and the processor seconds for a picture."""
    clock, core = time.perf_counter(), time.process_time()
    count = act()
    return (time.perf_counter() - clock) / count, (time.process_time() - core) / count


def peak():
    """Returns the largest memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(dataset, paths, size, rounds):
    """Returns the times of each contestant in every round, and the memory of predicting."""
    import numpy as np
    import tensorflow as tf

    from keras_elu import predict

    model = network(size)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), "uint8"))
    call = tf.function(lambda: model(pixels, training=False), autograph=False)

    def pipeline():
        batches = dataset.evaluation("validation", BATCH, image_size=size, preprocess="none")
        return sum(len(images) for images, _ in batches)

    contestants = {
        "pipeline": pipeline,
        "network": lambda: sum(len(call().numpy()) for _ in range(PHOTOGRAPHS // BATCH)),
        "predict": lambda: sum(1 for _ in predict.predict(model, paths, batch_size=BATCH)),
    }
    rows = {name: {"seconds": [], "core seconds": []} for name in contestants}
    for number in range(1 + rounds):
        for name, act in contestants.items():
            seconds, core = timed(act)
            if number:  # the first round starts threads
                rows[name]["seconds"].append(seconds)
                rows[name]["core seconds"].append(core)
    memory = {}
    for done, _ in enumerate(predict.predict(model, paths * 10, batch_size=BATCH), start=1):
        if done in (len(paths), len(paths) * 10):
            memory[done] = peak()
    return rows, memory


def report(size, rows, memory):
    print(f"\n{size} x {size} pixels")
    for name, row in rows.items():
        rates = [1 / seconds for seconds in row["seconds"]]
        print(
            f"{name:<10}{statistics.median(rates):>8,.0f} [{min(rates):,.0f}, {max(rates):,.0f}] "
            f"pictures/s, {1e3 * statistics.median(row['core seconds']):.2f} core ms each"
        )
    for kind in ("seconds", "core seconds"):
        times = [rows[name][kind] for name in ("pipeline", "network", "predict")]
        rounds = list(zip(*times, strict=True))
        print(
            f"rate of predict by {kind}: {spread([a / c for a, _, c in rounds])} of the pipeline's,"
            f" {spread([(a + b) / c for a, b, c in rounds])} of pipeline and network in turn"
        )
    for count, peak in memory.items():
        print(f"peak memory after predicting {count:,} pictures: {peak:,.0f} MB")


def spread(ratios):
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from keras_elu import data, environment, predict
    from keras_elu.prepare.__main__ import main as prepare

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        origin = photographs(folder / "source")
        command = [str(folder / "source"), str(folder / "data"), "--name", "photographs"]
        if prepare(command):
            sys.exit("The photographs cannot be prepared.")
        dataset = data.load("photographs", data_dir=folder / "data")
        paths = predict.find_pictures([folder / "source" / "val"])
        record = environment.describe() | {"benchmark": "predict", "from": origin, "sizes": {}}
        for size in SIZES:
            rows, memory = measure(dataset, paths, size, options.rounds)
            report(size, rows, memory)
            record["sizes"][size] = {"rows": rows, "peak MB": memory}
    environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
