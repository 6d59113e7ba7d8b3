"""The progress that a run shows: a bar on a terminal, and one line for every epoch.

Without a terminal, a long epoch also prints a line after half a minute, and then every five
minutes.
"""

import math
import statistics
import sys
import time
from typing import Any

import keras
import tqdm

_FIRST_LINE, _NEXT_LINE = 30, 300  # seconds
_SPAN = 1  # seconds of training, at least, over which a speed is measured


class Progress(keras.callbacks.Callback):
    """Shows the progress of a run, its speed and the time left.

    The speed is that of the training steps, without validation and without the first execution,
    which compiles. It is a median over spans of a second or more, and for the run over epochs, so a
    pause of the machine does not count. Each epoch adds `images_per_second`, its speed, and
    `seconds`, the time since the run began, to the logs that later callbacks receive.

    Args:
        batch_size: Images in a step, over all replicas.
        steps: Steps in an epoch.
        epochs: Number of epochs.
    """

    def __init__(self, batch_size: int, steps: int, epochs: int):
        super().__init__()
        self._batch_size, self._steps, self._epochs = batch_size, steps, epochs
        self._images, self._seconds = 0, 0.0  # of the measured steps of all epochs
        self._of_epochs, self._of_spans = [], []  # speeds
        self._first_call_ended, self._steps_since = None, 0
        self._started, self._before = time.perf_counter(), 0.0
        self._next_line = self._started + _FIRST_LINE

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, including earlier attempts."""
        return self._before + time.perf_counter() - self._started

    def get_state(self) -> dict[str, Any]:
        """Returns the state that a checkpoint saves."""
        return {
            "images": self._images,
            "seconds": self._seconds,
            "elapsed": self.elapsed,
            "speeds": self._of_epochs.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a saved state."""
        self._images, self._seconds = state["images"], state["seconds"]
        self._of_epochs = list(state.get("speeds", []))
        self._before, self._started = state["elapsed"], time.perf_counter()

    @property
    def trained(self) -> tuple[int, float]:
        """The number of measured images, and the seconds that they took."""
        return self._images, self._seconds

    @property
    def images_per_second(self) -> float:
        """Median over the epochs; NaN before the end of the first that has a speed."""
        return statistics.median(self._of_epochs) if self._of_epochs else math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._steps_done = epoch, None
        self._of_spans, self._span = [], (0, 0.0)
        self._mark = time.perf_counter()
        self._bar = tqdm.tqdm(
            total=self._steps,
            desc=self._title(),
            bar_format="{desc} {percentage:3.0f}% |{bar:20}|{postfix}",
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def on_train_batch_begin(self, batch, logs=None):
        if self._steps_done is None:  # not 0 in the epoch that a run resumes in
            self._steps_done = batch
            self._bar.update(batch)

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        done = min(batch + 1, self._steps)  # Keras counts the last execution as a full one
        steps, self._steps_done = done - self._steps_done, done
        if self._first_call_ended is None:
            self._first_call_ended = now
        else:
            self._measure(steps * self._batch_size, now - self._mark)
            self._steps_since += steps
        self._mark = now
        if not self._bar.disable:
            self._bar.set_postfix_str(self._text(logs), refresh=False)
            self._bar.update(steps)
        elif now >= self._next_line and self._steps_since:
            self._next_line = now + _NEXT_LINE
            print(f"{self._title()} {done / self._steps:4.0%} {self._text(logs)}", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        if self._steps_done is None:  # an earlier attempt trained all of them
            self._steps_done = self._steps
        self._bar.close()
        print(self._title(), self._text(logs), flush=True)
        self._next_line = max(self._next_line, time.perf_counter() + _FIRST_LINE)
        logs["images_per_second"], logs["seconds"] = self._speed(), self.elapsed
        if not math.isnan(self._speed()):
            self._of_epochs.append(self._speed())

    def _title(self) -> str:
        width = len(str(self._epochs))
        return f"epoch {self._epoch + 1:{width}}/{self._epochs}"

    def _measure(self, images: int, seconds: float) -> None:
        self._images, self._seconds = self._images + images, self._seconds + seconds
        images, seconds = self._span[0] + images, self._span[1] + seconds
        self._span = images, seconds
        if seconds >= _SPAN:
            self._of_spans.append(images / seconds)
            self._span = 0, 0.0

    def _speed(self) -> float:
        """Images per second in this epoch."""
        if self._of_spans:
            return statistics.median(self._of_spans)
        images, seconds = self._span
        return images / seconds if seconds else math.nan

    def _text(self, logs) -> str:
        speed = "?" if math.isnan(self._speed()) else f"{self._speed():,.0f}"
        return "  ".join([metrics_text(logs), f"{speed} images/s", f"{self._left()} left"])

    def _left(self) -> str:
        done = self._epoch * self._steps + self._steps_done
        if not self._steps_since:
            return "?"
        a_step = (time.perf_counter() - self._first_call_ended) / self._steps_since
        return tqdm.tqdm.format_interval(a_step * (self._steps * self._epochs - done))


def metrics_text(metrics: dict[str, float]) -> str:
    """Returns metrics as text: losses first, validation last, accuracies in percent.

    Example:

    >>> metrics_text({"accuracy": 0.98765, "loss": 0.0123456, "val_loss": 1.0})
    'loss 0.01235  accuracy 98.77%  val_loss 1'
    """
    ordered = sorted(metrics, key=lambda name: (name.startswith("val_"), "loss" not in name))
    return "  ".join(
        f"{name} {metrics[name]:{'.2%' if 'accuracy' in name else '.4g'}}" for name in ordered
    )
