"""Pictures per second: keras_elu.predict against the input pipeline alone, on the same photographs.

    KERAS_ELU_DATA=FOLDER python benchmarks/predict.py

prints a table and appends it to benchmarks/results/predict.jsonl. The photographs are
those of FOLDER/imagenet_sample; without KERAS_ELU_DATA, two of scikit-learn's.

The pipeline yields the evaluation images of a data set of 1,000 photographs; predicting reads the
same photographs from files, and passes them through a small network. The two take turns. The
processor time is that of all threads, and the memory the peak after each round.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import sys
import tempfile
import time

PHOTOGRAPHS = 1000
SIZE = 224
BATCH = 64
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


def network():
    """Returns a small classifier of photographs."""
    import keras

    from keras_elu import models
    from keras_elu.data import crops

    x = inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(8, 8, strides=8, activation="elu")(x)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    return models.Classifier(
        inputs, x, class_names=["a", "b"], image_size=(SIZE, SIZE), crop=crops.SHARE
    )


def timed(act):
    """Returns the seconds and the processor seconds for a picture, and the peak memory in MB."""
    clock, core = time.perf_counter(), time.process_time()
    count = act()
    seconds = time.perf_counter() - clock, time.process_time() - core
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [each / count for each in seconds], peak


def measure(folder, rounds):
    from keras_elu import data, predict

    dataset = data.load("photographs", data_dir=folder / "data")
    pipeline = dataset.evaluation("validation", BATCH, image_size=SIZE, preprocess="none")
    model = network()
    paths = predict.find_pictures([folder / "source" / "val"])
    contestants = {
        "pipeline": lambda: sum(len(images) for images, _ in pipeline),
        "predict": lambda: sum(1 for _ in predict.predict(model, paths, batch_size=BATCH)),
    }
    rows = {name: {"seconds": [], "core seconds": [], "peak MB": []} for name in contestants}
    for number in range(1 + rounds):
        for name, act in contestants.items():
            (seconds, core), peak = timed(act)
            if number:  # the first round traces and tunes
                rows[name]["seconds"].append(seconds)
                rows[name]["core seconds"].append(core)
                rows[name]["peak MB"].append(peak)
    return rows


def report(rows):
    for name, row in rows.items():
        rates = [1 / seconds for seconds in row["seconds"]]
        print(
            f"{name:<10}{statistics.median(rates):>8,.0f} [{min(rates):,.0f}, {max(rates):,.0f}] "
            f"pictures/s, {1e3 * statistics.median(row['core seconds']):.2f} core ms, peak "
            f"{row['peak MB'][0]:,.0f} to {row['peak MB'][-1]:,.0f} MB"
        )
    for kind in ("seconds", "core seconds"):
        pairs = zip(rows["pipeline"][kind], rows["predict"][kind], strict=True)
        ratios = [a / b for a, b in pairs]
        print(
            f"rate of predict, as a multiple of the pipeline's, by {kind}: "
            f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from keras_elu import environment
    from keras_elu.prepare.__main__ import main as prepare

    record = environment.describe()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        origin = photographs(folder / "source")
        command = [str(folder / "source"), str(folder / "data"), "--name", "photographs"]
        if prepare(command):
            sys.exit("The photographs cannot be prepared.")
        rows = measure(folder, options.rounds)
    report(rows)
    environment.append(RESULTS, json.loads(json.dumps(record | {"from": origin, "rows": rows})))


if __name__ == "__main__":
    main()
