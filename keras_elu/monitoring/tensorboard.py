"""The events of a run for TensorBoard, at the training steps to which they belong."""

import functools
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import metadata as histogram
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as image
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util import tensor_util

from keras_elu.monitoring import mistakes, pictures, speed
from keras_elu.monitoring.events import EventLog
from keras_elu.monitoring.probe import Probe
from keras_elu.monitoring.progress import Progress

_SECONDS = 10  # between measurements of the speed, and between flushes
_IMAGES = 64  # of a batch, for the picture and the probe
_WAIT = "input_wait"


class TensorBoard(keras.callbacks.Callback):
    """Writes the numbers of a training, each at the step to which it belongs.

    Every step has its loss, its learning rate and every alpha that changes. Every epoch has its
    metrics at its last step. The config and a picture of a batch precede the first step; `finish`
    adds the test metrics, the confusion matrix and the worst mistakes after the last one. Measured
    speeds, which vary from run to run, have tags that begin with `speed/`. A resumed run keeps the
    events that precede its checkpoint, and drops later ones.

    Args:
        folder: The folder for events of the whole run. Training, validation and test have folders
            in it.
        steps: Steps in an epoch.
        config: The config, shown as a table.
        hyperparameters: The part of the config that HParams shows.
        trial: Name of the search trial that the run belongs to; HParams then shows the metrics that
            the search has chosen. None: HParams shows the test metrics.
        batch: Returns a batch of training images and labels, without taking it from the training.
        progress: The callback that measures the speed; it must precede this one.
        histograms_every: Steps between two probes of the layers. A probe waits for the end of the
            execution in which it is due. None: no probes.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        steps: int,
        *,
        config: Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        trial: str | None = None,
        batch: Callable[[], tuple] | None = None,
        progress: Progress | None = None,
        histograms_every: int | None = None,
    ):
        super().__init__()
        self._logs = {"run": EventLog(folder)} | {
            split: EventLog(folder / split) for split in ("train", "validation", "test")
        }
        self._run, self._train, self._validation, self._test = self._logs.values()
        # HParams takes every curve in the session's folder, and below it, for a metric.
        self._session = self._test if trial is None else self._run
        self._steps = steps
        self._config, self._trial = dict(config or {}), trial
        self._hyperparameters = dict(hyperparameters or {})
        self._batch, self._progress = batch, progress
        self._every, self._probe = histograms_every, None
        self._failing = False

    def on_train_begin(self, logs=None):
        self.set_state({"events": {}})
        self._written = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._start, self._done = epoch * self._steps, None
        if not self._run.count:
            self._introduce()
        if self._every is not None and self._probe is None:
            self._probe = Probe(self.model, *self._sample)
            self._probe()  # compiles before the speed is measured
        self._measured_from = self._trained

    def on_train_batch_begin(self, batch, logs=None):
        if self._done is None:  # not step 0 in the epoch that a run resumes in
            self._done = self._start + batch

    def on_train_batch_end(self, batch, logs=None):
        # Keras counts the last execution as a full one.
        before, self._done = self._done, self._start + min(batch + 1, self._steps)
        self._rows.append((self._done, *self.model.step_scalars))
        if self._progress is not None and self._trained == self._measured_from:
            self._drain()
            self._waited = 0.0  # an execution that compiles does not count
        if self._probe is not None and self._done // self._every > before // self._every:
            self._observe()
        if time.monotonic() - self._written >= _SECONDS:
            self._measure()
            self.flush()

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self._steps
        self._done = step
        self._measure()
        of_training, of_validation = {}, {}
        for tag, value in (logs or {}).items():
            of = of_validation if tag.startswith("val_") else of_training
            of[f"epoch_{tag.removeprefix('val_')}"] = float(value)
        for log, values in ((self._train, of_training), (self._validation, of_validation)):
            if values:
                log.scalars(values.keys(), values.values(), step)
        self.flush()

    def finish(self, test: Mapping[str, float], dataset: tf.data.Dataset, epochs: int) -> None:
        """Adds the test metrics and pictures of the mistakes of a completed run.

        Args:
            test: The test metrics; empty if the run was not tested.
            dataset: The test batches.
            epochs: Number of epochs done.
        """
        step = epochs * self._steps
        if test:
            self._test.scalars([f"test_{name}" for name in test], test.values(), step)
        if test and mistakes.classifies(self.model, dataset):
            found = mistakes.find(self.model, dataset)
            self._picture("confusion_matrix", pictures.confusion(found.counts), step)
            if found.captions:
                worst = pictures.grid(found.images, found.captions)
                self._picture("worst_mistakes", worst, step)
        self._session.summary(_converted(session_end_pb(api_pb2.STATUS_SUCCESS)), step)
        self.flush()

    def flush(self) -> None:
        """Writes the events to the disk; a message on stderr says if the disk refuses them."""
        self._drain()
        self._written = time.monotonic()
        try:
            for log in self._logs.values():
                log.flush()
            self._failing = False
        except OSError as error:
            if not self._failing:
                print(
                    f"the events for TensorBoard could not be written ({error.strerror}): the run "
                    "continues, and tries again later",
                    file=sys.stderr,
                    flush=True,
                )
            self._failing = True

    def get_state(self) -> dict[str, Any]:
        """Returns the state that a checkpoint saves: the number of events so far."""
        self._drain()
        return {"events": {name: log.count for name, log in self._logs.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a saved state."""
        self._rows, self._waited = [], 0.0
        for name, log in self._logs.items():
            log.go_to(state["events"].get(name, 0))

    def _drain(self) -> None:
        """Turns the scalars of finished steps into events."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        ends, names, values = zip(*rows, strict=True)
        names = names[0]  # the same in all executions
        steps = [n for end, v in zip(ends, values, strict=True) for n in range(end - len(v), end)]
        values = np.concatenate(values)
        self._waited += float(values[:, names.index(_WAIT)].sum())
        kept = [i for i, name in enumerate(names) if name != _WAIT]
        tags = [names[i] for i in kept]
        for step, row in zip(steps, values[:, kept].tolist(), strict=True):
            self._train.scalars(tags, row, step + 1)

    def _introduce(self) -> None:
        if self._config:
            lines = [f"| {key} | {value} |" for key, value in self._config.items()]
            table = "\n".join(["| | |", "|-|-|", *lines])
            self._run.summary(text_pb("config", table), 0)
        if self._hyperparameters:
            # Without a list of columns, which TensorBoard would take from one of the runs for all.
            given = {
                key: value for key, value in self._hyperparameters.items() if value is not None
            }
            self._session.summary(_converted(hparams_pb(given, self._trial)), 0)
        if self._batch is not None:
            images = self._sample[0].numpy()
            if images.ndim == 4:
                self._picture("batch", pictures.grid(images), 0)

    def _picture(self, tag: str, png: bytes, step: int) -> None:
        width, height = pictures.size(png)
        content = np.array([str(width).encode(), str(height).encode(), png], object)
        metadata = image.create_summary_metadata(display_name=None, description=None)
        summary = summary_pb2.Summary()
        tensor = tensor_util.make_tensor_proto(content, dtype=np.object_)
        summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
        self._run.summary(summary, step)

    def _observe(self) -> None:
        self._drain()
        scalars, histograms = self._probe()
        self._train.scalars(self._probe.scalars, scalars.tolist(), self._done)
        summary = summary_pb2.Summary()
        metadata = histogram.create_summary_metadata(display_name=None, description=None)
        for tag, values in zip(self._probe.histograms, histograms, strict=True):
            if np.isfinite(values).all():
                tensor = tensor_util.make_tensor_proto(values, dtype=np.float64)
                summary.value.add(tag=tag, metadata=metadata, tensor=tensor)
        self._train.summary(summary, self._done)

    @functools.cached_property
    def _sample(self) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self._batch()
        return images[:_IMAGES], labels[:_IMAGES]

    @functools.cached_property
    def _operations_share(self) -> float | None:
        """The share of the devices' peak operations that one image per second uses."""
        peak = speed.device_peak(keras.config.dtype_policy().name)
        if peak is None or self._batch is None:
            return None
        operations = speed.operations(self.model, self._sample[0].shape[1:])
        return operations / (peak * self.model.distribute_strategy.num_replicas_in_sync)

    @property
    def _trained(self) -> tuple[int, float]:
        return (0, 0.0) if self._progress is None else self._progress.trained

    def _measure(self) -> None:
        """Adds the speed since the last measurement."""
        self._drain()
        (images_before, before), (images, seconds) = self._measured_from, self._trained
        waited, self._waited = self._waited, 0.0
        self._measured_from = images, seconds
        if seconds == before:
            return
        rate = (images - images_before) / (seconds - before)
        values = {
            "speed/images_per_second": rate,
            "speed/input_wait_share": min(1.0, waited / (seconds - before)),
            "speed/device_memory_gib": speed.memory(),
        }
        if self._operations_share is not None:
            values["speed/peak_flops_share"] = rate * self._operations_share
        self._train.scalars(values.keys(), values.values(), self._done)


def _converted(summary) -> summary_pb2.Summary:
    """Returns a summary of TensorFlow's type as one of TensorBoard's."""
    return summary_pb2.Summary.FromString(summary.SerializeToString())
