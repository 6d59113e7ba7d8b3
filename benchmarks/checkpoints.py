"""The cost of checkpoints: steps of the CIFAR network with a checkpoint after each, and without.

    python benchmarks/checkpoints.py

The two take turns in one process, ten steps at a time. The difference per step is the cost of one
checkpoint: the copy of the weights, and the cores that writing takes in the background. Divided by
100 steps, it is the cost of `--checkpoint_every 100`. Appends a JSON line to
benchmarks/results/checkpoints.jsonl.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "checkpoints.jsonl"
STEPS, BATCH = 10, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    rounds = parser.parse_args().rounds
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    from keras_elu import environment, models, training

    keras.utils.set_random_seed(0)
    plain = models.elu_cifar_11(input_shape=(32, 32, 3), classes=100)
    model = training.DistributedModel(plain.inputs, plain.outputs)
    model.compile(
        keras.optimizers.SGD(0.001, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images = tf.random.normal([BATCH, 32, 32, 3])
    labels = tf.random.uniform([BATCH], maxval=100, dtype="int32")
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.begin = time.perf_counter()
            self.end = time.perf_counter()

    def milliseconds(folder=None):
        """Returns the time of a step, without the first of the turn."""
        clock = Clock()
        callbacks = [clock]
        if folder:
            callbacks = [training.Checkpoints(folder, every="1"), clock]
        model.fit(batches, steps_per_epoch=1 + STEPS, verbose=0, callbacks=callbacks)
        if folder:
            callbacks[0].close()
        return 1e3 * (clock.end - clock.begin) / STEPS

    without, with_one, written = [], [], []
    milliseconds()  # compiles
    for _ in tqdm.trange(rounds, disable=None):
        with tempfile.TemporaryDirectory() as folder:
            without.append(milliseconds())
            with_one.append(milliseconds(folder))
            written.append(max(path.stat().st_size for path in pathlib.Path(folder).iterdir()))
    costs = [b - a for a, b in zip(without, with_one, strict=True)]
    shares = [cost / (100 * a) for a, cost in zip(without, costs, strict=True)]

    def spread(values, form):
        return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"

    print(
        f"a step without: {spread(without, '.0f')} ms, with a checkpoint: "
        f"{spread(with_one, '.0f')} ms, of {written[0] / 1e6:.1f} MB"
    )
    print(f"one checkpoint: {spread(costs, '.1f')} ms; every 100 steps: {spread(shares, '.2%')}")
    record = environment.describe() | {
        "benchmark": "checkpoints",
        "bytes": written[0],
        "milliseconds without": without,
        "milliseconds with": with_one,
    }
    environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
