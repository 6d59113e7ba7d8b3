"""The cost of watching a run: steps with the TensorBoard callback, and without.

    python benchmarks/monitoring.py

The networks are a small one of dense layers, whose short steps make every cost visible, with turns
of one epoch of MNIST, and the CIFAR network. Three contestants take turns in one process, in random
order: the progress bar alone, the bar with TensorBoard's defaults, and the same with a histogram of
the layers. A turn counts from the end of its first step to the end of its epoch, when everything is
written. The cost of the callback is measured twice: as the difference between the steps of a round,
and, because noise hides that in short turns, as the time spent inside the callback. The cost of a
histogram is the difference in the time inside the callback. Appends a JSON line to
benchmarks/results/monitoring.jsonl.
"""

import argparse
import contextlib
import gc
import io
import os
import pathlib
import random
import statistics
import tempfile
import time

import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "monitoring.jsonl"
# The factory in keras_elu.models, its arguments, the batch, the steps of a turn after the first,
# and the turns of each contestant.
NETWORKS = {
    "mlp": ("mnist_mlp", {"input_shape": (28, 28, 1), "classes": 10}, 64, 859, 31),
    "cifar": ("elu_cifar_11", {"input_shape": (32, 32, 3), "classes": 100}, 100, 10, 15),
}


def turns(network):
    """Returns, by contestant and turn, the milliseconds of a step and those in the callback."""
    import keras
    import tensorflow as tf

    from keras_elu import models, training
    from keras_elu.monitoring.progress import Progress
    from keras_elu.monitoring.tensorboard import TensorBoard

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
                gc.collect()  # garbage of the start, which happens once in a run
                self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.end = time.perf_counter()

    class Timed(TensorBoard):
        """Sums the seconds spent in it after the first step."""

        def __init__(self, *arguments, progress, **keywords):
            super().__init__(*arguments, progress=progress, **keywords)
            self.progress, self.seconds = progress, 0.0

        def on_train_batch_begin(self, batch, logs=None):
            if batch:
                self._time(super().on_train_batch_begin, batch, logs)
            else:
                super().on_train_batch_begin(batch, logs)

        def on_train_batch_end(self, batch, logs=None):
            if batch:
                self._time(super().on_train_batch_end, batch, logs)
            else:
                super().on_train_batch_end(batch, logs)

        def on_epoch_end(self, epoch, logs=None):
            self._time(super().on_epoch_end, epoch, logs)

        def _time(self, method, *arguments):
            begin = time.perf_counter()
            method(*arguments)
            self.seconds += time.perf_counter() - begin

    def board(folder, histograms_every=None):
        return Timed(
            pathlib.Path(folder),
            1 + steps,
            config={"network": network},
            batch=lambda: (images, labels),
            progress=Progress(batch, 1 + steps, 1),
            histograms_every=histograms_every,
        )

    def turn(watching=None):
        """Returns the milliseconds of a step, and those of them inside the callback."""
        clock = Clock()
        callbacks = [Progress(batch, 1 + steps, 1), clock]
        if watching is not None:
            watching.seconds = 0.0
            callbacks = [watching.progress, watching, clock]
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(batches, steps_per_epoch=1 + steps, verbose=0, callbacks=callbacks)
        inside = 0.0 if watching is None else watching.seconds
        return 1e3 * (clock.end - clock.begin) / steps, 1e3 * inside / steps

    with tempfile.TemporaryDirectory() as folder:
        default, look = board(f"{folder}/default"), board(f"{folder}/look", 1 + steps)
        contestants = {"without": None, "default": default, "with histograms": look}
        for watching in contestants.values():
            turn(watching)  # compiles
        taken = {name: [] for name in contestants}
        for _ in tqdm.trange(rounds, desc=network, disable=None):
            for name in random.sample(list(contestants), len(contestants)):
                taken[name].append(turn(contestants[name]))
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
        without, default, look = taken.values()
        longer = [b / a - 1 for (a, _), (b, _) in zip(without, default, strict=True)]
        inside = [part / whole for whole, part in default]
        looks = [steps * (b - a) for (_, a), (_, b) in zip(default, look, strict=True)]
        of_each = [one / 100 / a for one, (a, _) in zip(looks, without, strict=True)]
        print(f"{network}: a step takes {spread([a for a, _ in without], '.3f')} ms")
        print(
            f"    with TensorBoard {spread([a for a, _ in default], '.3f')} ms, longer by "
            f"{spread(longer, '+.2%')}; inside it {spread(inside, '.2%')}"
        )
        print(
            f"    a histogram takes {spread(looks, '.1f')} ms; one every 100 steps "
            f"{spread(of_each, '.2%')}"
        )
    record = environment.describe() | {
        "benchmark": "monitoring",
        "milliseconds a step, and of them inside": found,
    }
    environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
