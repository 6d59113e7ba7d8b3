"""The event files that TensorBoard reads; each event is written as a whole or not at all."""

import functools
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from keras_elu import tfrecord
from keras_elu.files import aside


class EventLog:
    """The events of one folder, in one file.

    Args:
        folder: The folder. The first flush creates it.

    Attributes:
        count: Number of events.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self.go_to(0)

    def go_to(self, count: int) -> None:
        """Keeps the first `count` events in the folder. The next flush removes the others."""
        self.count = self._kept = count
        self._path = None
        self._waiting = []

    def scalars(self, tags: Sequence[str], values: Sequence[float], step: int) -> None:
        """Adds numbers as one event."""
        event = _scalars(tuple(tags))
        event.step, event.wall_time = step, time.time()
        for held, value in zip(event.summary.value, values, strict=True):
            held.tensor.float_val[0] = value
        self._add(event)

    def summary(self, summary: summary_pb2.Summary, step: int) -> None:
        """Adds the summary of a TensorBoard plugin."""
        self._add(event_pb2.Event(step=step, wall_time=time.time(), summary=summary))

    def _add(self, event: event_pb2.Event) -> None:
        self._waiting.append(_record(event))
        self.count += 1

    def flush(self) -> None:
        """Writes the waiting events to the file.

        Raises:
            OSError: If the disk refuses them. They wait for the next flush.
        """
        if not self._waiting:
            return
        if self._path is None:
            self._path = self._begin()
        with self._path.open("ab", buffering=0) as file:
            size, left = file.tell(), b"".join(self._waiting)
            try:
                while left:  # a disk that fills mid-write accepts a part first
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(size)
                raise
        self._waiting = []

    def _begin(self) -> pathlib.Path:
        """Creates the file of this process from the events that are kept of earlier files.

        A TensorBoard that has read an earlier file finds this one next. It drops all earlier events
        when it reads that a session starts at step 0.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        before = sorted(self._folder.glob("events.out.tfevents.*"), key=_begun)
        held = (record for path in before for record in _events(path.read_bytes()))
        kept = [record for _, record in zip(range(self._kept), held, strict=False)]
        # TensorBoard reads the files in the order of their names.
        begun = max([int(time.time()), *(_begun(path)[0] + 1 for path in before)])
        name = f"events.out.tfevents.{begun}.{socket.gethostname()}.{os.getpid()}"
        with aside(self._folder / name) as path:
            path.write_bytes(b"".join([*_head(), *kept]))
        for path in before:
            path.unlink()
        return self._folder / name


@functools.lru_cache(maxsize=64)
def _scalars(tags: tuple[str, ...]) -> event_pb2.Event:
    """An event to fill with numbers: creating one costs more than the rest of its handling."""
    event = event_pb2.Event()
    for tag in tags:
        event.summary.MergeFrom(scalar_pb(tag, 0.0))
    return event


def _head() -> list[bytes]:
    """The records that every file begins with."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return [
        _record(event_pb2.Event(file_version="brain.Event:2", wall_time=time.time())),
        _record(event_pb2.Event(session_log=start, wall_time=time.time())),
    ]


def _record(event: event_pb2.Event) -> bytes:
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join([length, tfrecord.checksum(length), data, tfrecord.checksum(data)])


def _events(data: bytes) -> Iterator[bytes]:
    """Yields the complete records in a file, except for its head."""
    begin = 0
    while begin + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, begin)  # then its checksum, data, their checksum
        end = begin + 12 + length + 4
        if end > len(data):
            return
        if event_pb2.Event.FromString(data[begin + 12 : end - 4]).HasField("summary"):
            yield data[begin:end]
        begin = end


def _begun(path: pathlib.Path) -> tuple[int, str]:
    """The time in seconds at which a file was begun, from its name, and the name."""
    return int(path.name.split(".")[3]), path.name
