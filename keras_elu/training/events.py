"""What TensorBoard shows of a run, on the axis of the steps of training."""

import io
import os
import pathlib
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from keras_elu.training.files import aside


class TensorBoard(keras.callbacks.Callback):
    """Writes the metrics of training and validation, at the step at which each epoch ended.

    A run that goes on from a checkpoint has the events from before it, and no others.

    Args:
        folder: The folder; it gets one for training and one for validation.
        steps: Steps in an epoch.
    """

    def __init__(self, folder: pathlib.Path, steps: int):
        super().__init__()
        self._logs = {name: EventLog(folder / name) for name in ("train", "validation")}
        self._steps = steps
        self._failing = False

    def on_train_begin(self, logs=None):
        self.set_state({"events": dict.fromkeys(self._logs, 0)})

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self._steps
        for tag, value in (logs or {}).items():
            name = "validation" if tag.startswith("val_") else "train"
            self._logs[name].scalar(f"epoch_{tag.removeprefix('val_')}", value, step)
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        self._logs["train"].scalar("learning_rate", float(rate), step)
        self.flush()

    def flush(self) -> None:
        """Brings the events to the disk; says on stderr if it refuses them."""
        try:
            for log in self._logs.values():
                log.flush()
            self._failing = False
        except OSError as error:
            if not self._failing:
                print(
                    f"the events for TensorBoard could not be written ({error.strerror}): the run "
                    "goes on, and they will be later",
                    file=sys.stderr,
                    flush=True,
                )
            self._failing = True

    def get_state(self) -> dict[str, Any]:
        """Returns what belongs into a checkpoint: the number of events so far."""
        return {"events": {name: log.count for name, log in self._logs.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for name, log in self._logs.items():
            log.go_to(state["events"][name])


class EventLog:
    """The events of one folder, in one file, to which they come as a whole or not at all.

    Args:
        folder: The folder, which is made with the first event.

    Attributes:
        count: Number of events.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self.go_to(0)

    def go_to(self, count: int) -> None:
        """Leaves of the events in the folder the first `count`, once there is another one."""
        self.count = self._kept = count
        self._path = None
        self._waiting = b""

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds a number."""
        event = event_pb2.Event(step=step, wall_time=time.time(), summary=scalar_pb(tag, value))
        self._waiting += _record(event)
        self.count += 1

    def flush(self) -> None:
        """Brings the events to the file.

        Raises:
            OSError: If the disk refuses them; they wait for the next time.
        """
        if not self._waiting:
            return
        if self._path is None:
            self._path = self._begin()
        with self._path.open("ab", buffering=0) as file:
            size, left = file.tell(), self._waiting
            try:
                while left:  # a disk that becomes full amid it takes a part, and then refuses
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(size)
                raise
        self._waiting = b""

    def _begin(self) -> pathlib.Path:
        """Makes the file of this process, with what is kept of those before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        before = sorted(self._folder.glob("events.out.tfevents.*"), key=_begun)
        events = (record for path in before for record in _events(path.read_bytes()))
        kept = [record for _, record in zip(range(self._kept), events, strict=False)]
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        with aside(self._folder / name) as path:
            version = event_pb2.Event(file_version="brain.Event:2", wall_time=time.time())
            path.write_bytes(b"".join([_record(version), *kept]))
        for path in before:
            if path.name != name:
                path.unlink()
        return self._folder / name


def _record(event: event_pb2.Event) -> bytes:
    file = io.BytesIO()
    RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()


def _events(data: bytes) -> Iterator[bytes]:
    """Yields the records in a file, less the one of its version and one that a kill has cut."""
    begin = 0
    while begin + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, begin)  # then its checksum, data, their checksum
        end = begin + 12 + length + 4
        if end > len(data):
            return
        if not event_pb2.Event.FromString(data[begin + 12 : end - 4]).HasField("file_version"):
            yield data[begin:end]
        begin = end


def _begun(path: pathlib.Path) -> tuple[int, str]:
    """Seconds at which a file of events was begun, which its name tells."""
    return int(path.name.split(".")[3]), path.name
