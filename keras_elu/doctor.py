"""Whether a trainer's input or its step limits it, by how much, and what to change.

python -m keras_elu.doctor trainers/imagenet.py --dataset imagenet2012 --batch_size 256

The flags are the trainer's; no run folder is made. It trains for half a minute: the input alone,
the step alone, on one batch again and again, and both. The exit code is 0, or 1 if they fail, and 2
for a wrong command line.
"""

import dataclasses
import math
import re
import sys
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_elu import commands, data, environment
from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.training.config import Config
from keras_elu.training.run import prepare_script

SECONDS = 5.0  # of each measurement
AHEAD = 5  # batches that are not measured, since they may have been read ahead
AHEAD_SECONDS = 2.0  # after which measuring begins all the same
NEARLY = 0.85  # of the slower of the two, at least, where input and step do not hinder each other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Images a second.

    Attributes:
        input: Of the input alone.
        per_core: Of the input, for each second that it has of a core.
        step: Of the step alone.
        both: Of training.
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
    """Examines the trainer of a command line, prints what it finds, and returns the exit code.

    Args:
        arguments: The trainer's script and its flags. None: the process's own.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _, _, run = prepare_script(arguments, _check_workers)
    except ValueError as error:
        return commands.failure(error)
    config, cores, batch_size = run.config, environment.cores(), run.config.batch_size
    print(
        f"{run.recipe} on {run.dataset.name}: batches of {batch_size} images, cores: {cores}, "
        f"replicas: {run.replicas}",
        flush=True,
    )
    try:
        alone, per_core, batch = measure_input(run.training(0), batch_size)
        _show("input alone", alone, f", {per_core:,.0f} for each second of a core")
        step = measure_step(run.model, tf.data.Dataset.from_tensors(batch).repeat(), batch_size)
        _show("step alone", step)
        both = measure_step(run.model, run.training(0), batch_size)
        _show("both", both)
    except NonFiniteLoss as error:
        return commands.failure(f"{error} Lower --learning_rate.")
    except tf.errors.OpError:
        if not run.dataset.failure:
            raise
        return commands.failure(run.dataset.failure)
    findings = Findings(input=alone, per_core=per_core, step=step, both=both, cores=cores)
    print("\n".join(advice(findings, run.dataset, config)), flush=True)
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
    """Takes batches as fast as they come.

    Returns:
        Images a second, images for each second of a core, and one of the batches.
    """
    clock, batches, number = _Clock(), iter(batches), 0
    batch = next(batches)
    while not clock.tick(number):
        batch, number = next(batches), number + 1
    return batch_size * clock.speed, batch_size * clock.per_core, batch


def measure_step(model: keras.Model, batches: tf.data.Dataset, batch_size: int) -> float:
    """Trains, and returns images a second."""
    clock = _Clock()

    class Timer(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = clock.tick(batch)

    steps = 2**30 // model.steps_per_execution * model.steps_per_execution
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[Timer()])
    return batch_size * clock.speed


class _Clock:
    """Measures what repeats, without its beginning."""

    def __init__(self):
        self._born, self._begin = time.perf_counter(), None

    def tick(self, number: int) -> bool:
        """Is told the number of each repetition when it ends; returns whether that is enough."""
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
        """Repetitions a second."""
        return self._count / self._seconds

    @property
    def per_core(self) -> float:
        """Repetitions for each second of a core."""
        return self._count / self._of_cores


def advice(found: Findings, dataset: data.Dataset, config: Config) -> list[str]:
    """Returns what the findings mean, in sentences.

    Args:
        found: What was measured.
        dataset: On which.
        config: With which.
    """
    needs = f"An accelerator of this speed needs {found.needed} cores for its input"
    if found.input_limits:
        said = [
            f"THE INPUT LIMITS: the step could take {found.step / found.input:.1f} times as many "
            f"images. {needs}; there are {found.cores}.",
            *_for_input(found, dataset),
        ]
    else:
        said = [
            f"THE STEP LIMITS: the input could give {found.input / found.step:.1f} times as many "
            f"images. {needs}; there are {found.cores}.",
            "Neither more cores for the input nor smaller images make this faster.",
        ]
        if config.precision == "float32" and tf.config.list_logical_devices("GPU"):
            said.append("Try --precision mixed_bfloat16.")
    together = found.both / min(found.input, found.step)
    if together < NEARLY:
        said.append(f"Together they reach {together:.0%} of the slower one:")
        if tf.config.list_logical_devices("GPU"):
            said[-1] += " try --steps_per_execution 8."
        else:
            said[-1] += " without an accelerator they share the cores."
    return said


def _for_input(found: Findings, dataset: data.Dataset) -> list[str]:
    busy = found.input / (found.per_core * found.cores)
    if busy < 0.5:
        return [
            f"It leaves {1 - busy:.0%} of the cores idle, since it waits: put the data on a faster "
            "disk, and see what else its pipeline waits for."
        ]
    said = []
    if not isinstance(dataset, data.in_memory.InMemory):
        name = dataset.name
        if not re.search(r"_\d+(_raw)?$", name):
            said.append(
                f"Prepare the images smaller, with --resize 256, and train on {name}_256: a core "
                "makes two to three times as many of those."
            )
        if not name.endswith("_raw"):
            said.append(
                "Of pixels, which --raw stores besides, it makes five to seven times as many as of "
                "whole photographs."
            )
    if found.needed > found.cores:
        said.append(f"Or use a machine with {found.needed} cores.")
    return said


if __name__ == "__main__":
    sys.exit(main())
