"""Finds the bottleneck of a trainer, its input or its step, and suggests what to change.

python -m keras_elu.doctor trainers/imagenet.py --dataset imagenet2012 --batch_size 256

The flags are those of the trainer. The doctor measures for about half a minute and creates no run
folder: first the input alone, then the step alone, which repeats one batch, and then both. The exit
code is 0, 1 if the data cannot be read, and 2 for a wrong command line.
"""

import dataclasses
import math
import re
import sys
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_elu import commands, data, system
from keras_elu.monitoring import losses
from keras_elu.training.config import Config
from keras_elu.training.run import prepare_script

SECONDS = 5.0  # of each measurement
AHEAD = 5  # unmeasured batches at the start, which may have been read ahead
AHEAD_SECONDS = 2.0  # the longest that these batches may take
NEARLY = 0.85  # of the slower one: the least speed of both together if they do not interfere


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """The measured speeds, in images per second.

    Attributes:
        input: Speed of the input alone.
        per_core: Speed of the input per core, in images per second of CPU time.
        step: Speed of the step alone.
        both: Speed of training.
        cores: The number of cores that the process may use.
    """

    input: float
    per_core: float
    step: float
    both: float
    cores: int

    @property
    def input_limits(self) -> bool:
        return self.input < self.step

    @property
    def needed(self) -> int:
        """Cores that the input needs to keep up with the step."""
        return max(1, math.ceil(self.step / self.per_core))


def main(arguments: Sequence[str] | None = None) -> int:
    """Examines the trainer of a command line, prints the findings, and returns the exit code.

    Args:
        arguments: The trainer's script and its flags. None: the process's own.
    """
    try:
        arguments = commands.trainer_arguments("keras_elu.doctor", __doc__, arguments)
        _, _, run = prepare_script(arguments, _check_workers)
    except ValueError as error:
        return commands.failure(error)
    config, cores, batch_size = run.config, system.cores(), run.config.batch_size
    print(
        f"{run.recipe} on {run.dataset.name}: batches of {batch_size} images, cores: {cores}, "
        f"replicas: {run.replicas}",
        flush=True,
    )
    non_finite = losses.train_past_non_finite(run.model)
    try:
        alone, per_core, batch = measure_input(run.training(0), batch_size)
        _show("input alone", alone, f", {per_core:,.0f} per second of CPU time")
        step = measure_step(run.model, tf.data.Dataset.from_tensors(batch).repeat(), batch_size)
        _show("step alone", step)
        both = measure_step(run.model, run.training(0), batch_size)
        _show("both", both)
    except tf.errors.OpError:
        if not run.dataset.failure:
            raise
        return commands.failure(run.dataset.failure)
    findings = Findings(input=alone, per_core=per_core, step=step, both=both, cores=cores)
    print("\n".join(advice(findings, run.dataset, config)), flush=True)
    if non_finite:
        print(
            f"The loss of step {non_finite[0]:,} was not finite, which does not change these "
            "speeds: lower --learning_rate before you train.",
            flush=True,
        )
    return 0


def _check_workers(config: Config) -> None:
    if config.strategy == "multiworker":
        raise ValueError(
            "--strategy multiworker cannot be examined: examine one worker, with --strategy "
            "mirrored and its part of --batch_size."
        )


def _show(what: str, speed: float, more: str = "") -> None:
    print(f"{what:<12}{speed:>9,.0f} images/s{more}", flush=True)


def measure_input(batches: tf.data.Dataset, batch_size: int) -> tuple[float, float, tuple]:
    """Reads batches as fast as possible.

    Returns:
        Images per second, images per second of CPU time, and one of the batches.
    """
    clock, batches, number = _Clock(), iter(batches), 0
    batch = next(batches)
    while not clock.tick(number):
        batch, number = next(batches), number + 1
    return batch_size * clock.speed, batch_size * clock.per_core, batch


def measure_step(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> float:
    """Trains, and returns images per second."""
    clock = _Clock()

    class Timer(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = clock.tick(batch)

    steps = 2**30 // model.steps_per_execution * model.steps_per_execution
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[Timer()])
    return batch_size * clock.speed


class _Clock:
    """Measures the speed of repetitions, without the first ones."""

    def __init__(self):
        self._born, self._begin = time.perf_counter(), None

    def tick(self, number: int) -> bool:
        """Counts the repetition of this number; returns whether the measurement is complete."""
        now = number, time.perf_counter(), time.process_time()
        if self._begin is None:
            if number >= AHEAD or now[1] - self._born > AHEAD_SECONDS:
                self._begin = now
            return False
        self._count, self._seconds, self._of_cores = (
            end - begin for begin, end in zip(self._begin, now, strict=True)
        )
        return self._seconds > SECONDS

    @property
    def speed(self) -> float:
        """Repetitions per second."""
        return self._count / self._seconds

    @property
    def per_core(self) -> float:
        """Repetitions per second of CPU time."""
        return self._count / self._of_cores


def advice(found: Findings, dataset: data.Dataset, config: Config) -> list[str]:
    """Returns the bottleneck and suggestions, as sentences.

    Args:
        found: The measured speeds.
        dataset: The data set that they were measured on.
        config: The trainer's config.
    """
    needs = f"At this speed the step needs {found.needed} cores for its input"
    if found.input_limits:
        advised = [
            f"Bottleneck: input. The step could process {found.step / found.input:.1f} times as "
            f"many images. {needs}, and this machine has {found.cores}.",
            *_for_input(found, dataset),
        ]
    else:
        advised = [
            f"Bottleneck: step. The input could deliver {found.input / found.step:.1f} times as "
            f"many images. {needs}, and this machine has {found.cores}.",
            "Neither more cores for the input nor smaller images make training faster.",
        ]
        if config.precision == "float32" and tf.config.list_logical_devices("GPU"):
            advised.append("Try --precision mixed_bfloat16.")
    together = found.both / min(found.input, found.step)
    if together < NEARLY:
        advised.append(f"Together they reach {together:.0%} of the slower one's speed:")
        if tf.config.list_logical_devices("GPU"):
            advised[-1] += " try --steps_per_execution 8."
        else:
            advised[-1] += " without an accelerator they share the cores."
    return advised


def _for_input(found: Findings, dataset: data.Dataset) -> list[str]:
    busy = found.input / (found.per_core * found.cores)
    if busy < 0.5:
        return [
            f"The input waits and leaves {1 - busy:.0%} of the cores idle: move the data to a "
            "faster disk, or find what else it waits for."
        ]
    advised = []
    if not isinstance(dataset, data.in_memory.InMemory):
        name = dataset.name
        if not re.search(r"_\d+(_raw)?$", name):
            advised.append(
                f"Prepare smaller images with --resize 256, and train on {name}_256: a core reads "
                "two to three times as many of them."
            )
        if not name.endswith("_raw"):
            advised.append(
                "Prepare decoded images with --raw: a core reads five to seven times as many of "
                "them as of whole photographs."
            )
    if found.needed > found.cores:
        advised.append(f"Or use a machine with {found.needed} cores.")
    return advised


if __name__ == "__main__":
    sys.exit(main())
