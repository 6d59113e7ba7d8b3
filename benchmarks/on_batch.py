"""One batch at a time, as GAN code trains: train_on_batch, test_on_batch and predict_on_batch.

    python benchmarks/on_batch.py

prints for each method and number of replicas the milliseconds of a call of the model that
distributes and of stock Keras, which take turns in one process, and their ratio, and appends them
as a JSON line to benchmarks/results/on_batch.jsonl. The network is one dense layer, and its own
arithmetic takes no time.
"""

import argparse
import json
import os
import pathlib
import statistics
import time

RESULTS = pathlib.Path(__file__).parent / "results" / "on_batch.jsonl"
CALLS = 20  # of a turn
METHODS = ("train_on_batch", "test_on_batch", "predict_on_batch")


def compiled(cls, strategy):
    import keras

    with strategy.scope():
        inputs = keras.Input((8,))
        model = cls(inputs, keras.layers.Dense(1)(inputs))
        model.compile("sgd", "mse", jit_compile=False)
    return model


def turn(model, method, calls):
    """Returns the milliseconds of a call."""
    import numpy as np

    batch = [np.ones((8, 8), "float32")]
    if method != "predict_on_batch":
        batch.append(np.ones((8, 1), "float32"))
    begin = time.perf_counter()
    for _ in range(calls):
        getattr(model, method)(*batch)
    return 1e3 * (time.perf_counter() - begin) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="print the JSON line, append nothing")
    arguments = parser.parse_args()

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    import keras
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    from keras_elu import environment, training

    rows = []
    print(
        f"{'milliseconds: median [min, max]':<34}{'DistributedModel':<24}{'keras.Model':<24}ratio"
    )
    for name in ("default", "mirrored"):
        strategy = training.strategy(name)
        for method in METHODS:
            if name == "mirrored" and method == "predict_on_batch":
                continue  # of stock Keras, every replica then predicts all rows
            models = [compiled(cls, strategy) for cls in (training.DistributedModel, keras.Model)]
            times = [[], []]
            for number in range(-2, arguments.rounds):
                for model, taken in zip(models, times, strict=True):
                    milliseconds = turn(model, method, CALLS)
                    if number >= 0:
                        taken.append(milliseconds)
            ratios = [a / b for a, b in zip(*times, strict=True)]
            row = {"strategy": name, "method": method, "ours": times[0], "stock": times[1]}
            rows.append(row)
            print(f"{name + ', ' + method:<34}{spread(times[0]):<24}{spread(times[1]):<24}"
                  f"{statistics.median(ratios):.2f}")  # fmt: skip
    record = environment.describe() | {"benchmark": "on_batch", "rows": rows}
    if arguments.smoke:
        print(json.dumps(record))
    else:
        environment.append(RESULTS, record)


def spread(values):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
