"""What it costs to watch a run: steps with TensorBoard's callback, and without.

    python benchmarks/monitoring.py

For a small network of dense layers, whose steps are so short that all counts, and for the CIFAR
network. The contestants take turns in one process: the bar alone, the bar with TensorBoard as a run
has it by default, and with a look into the layers. A turn is timed from the end of its first step
to the end of its epoch, when all is written. What a look costs is the difference to the default;
with `--histograms_every 100` a hundredth of it comes on every step. Ratios are by round. Appends a
JSON line to benchmarks/results/monitoring.jsonl.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import statistics
import tempfile
import time

import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "monitoring.jsonl"
# The factory in keras_elu.models and its arguments, the batch, the steps of a turn after the first,
# and the turns of each contestant.
NETWORKS = {
    "mlp": ("mnist_mlp", {"input_shape": (28, 28, 1), "classes": 10}, 64, 300, 25),
    "cifar": ("elu_cifar_11", {"input_shape": (32, 32, 3), "classes": 100}, 100, 6, 7),
}


def turns(network):
    """Returns the milliseconds of a step in each turn, by contestant."""
    import keras
    import tensorflow as tf

    from keras_elu import models, training
    from keras_elu.training.progress import Progress
    from keras_elu.training.tensorboard import TensorBoard

    factory, arguments, batch, steps, rounds = NETWORKS[network]
    keras.utils.set_random_seed(0)
    plain = getattr(models, factory)(**arguments)
    model = training.DistributedModel(plain.inputs, plain.outputs)
    model.compile(
        keras.optimizers.SGD(0.001, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = tf.random.normal([batch, *arguments["input_shape"]])
    labels = tf.random.uniform([batch], maxval=arguments["classes"], dtype="int32")
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.end = time.perf_counter()

    def turn(folder=None, histograms_every=None):
        progress, clock = Progress(batch, 1 + steps, 1), Clock()
        callbacks = [progress, clock]
        if folder is not None:
            board = TensorBoard(
                pathlib.Path(folder),
                1 + steps,
                config={"network": network},
                batch=lambda: (images, labels),
                progress=progress,
                histograms_every=histograms_every,
            )
            callbacks = [progress, board, clock]
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(batches, steps_per_epoch=1 + steps, verbose=0, callbacks=callbacks)
        return 1e3 * (clock.end - clock.begin) / steps

    turn()  # compiles
    taken = {"without": [], "default": [], "with a look": []}
    for _ in tqdm.trange(rounds, desc=network, disable=None):
        for name, every in (("without", None), ("default", None), ("with a look", 1 + steps)):
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(turn(None if name == "without" else folder, every))
    return taken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    networks = parser.parse_args().networks
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_elu import environment

    def spread(values, form):
        return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"

    found = {network: turns(network) for network in networks}
    for network, taken in found.items():
        steps = NETWORKS[network][3]
        rounds = list(zip(*taken.values(), strict=True))
        shares = [default / without - 1 for without, default, _ in rounds]
        looks = [steps * (look - default) for _, default, look in rounds]
        of_each = [look / 100 / row[0] for look, row in zip(looks, rounds, strict=True)]
        print(f"{network}: a step takes {spread(taken['without'], '.3f')} ms")
        print(
            f"    and with TensorBoard {spread(taken['default'], '.3f')} ms, by round "
            f"{spread(shares, '+.2%')}"
        )
        print(
            f"    a look takes {spread(looks, '.1f')} ms; one every 100 steps "
            f"{spread(of_each, '+.2%')}"
        )
    record = environment.describe() | {"benchmark": "monitoring", "milliseconds a step": found}
    with RESULTS.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(f"Appended to {RESULTS.relative_to(pathlib.Path.cwd())}.")


if __name__ == "__main__":
    main()
