"""Random access to the records of TFRecord files, so that an epoch can have any order."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from keras_elu import files as keras_files
from keras_elu import tfrecord

_THREADS = 16  # for looking up records, which mostly waits for the disk


class Records:
    """The records of several files, under consecutive indices.

    Where a record begins follows from the lengths of those before it. This is looked up once, and
    cached next to the files if their folder can be written.

    Args:
        files: Paths of TFRecord files, on a disk, in one folder.
        parts: For each file, the first record to use, and how many. Records that are missing from a
            damaged file are counted, but cannot be read.

    Reference:
        The format is that of https://www.tensorflow.org/tutorials/load_data/tfrecord.
    """

    def __init__(self, files: Sequence[str | os.PathLike], parts: Sequence[tuple[int, int]]):
        self.files = [os.fspath(file) for file in files]
        counts = [count for _, count in parts]
        self._file = np.repeat(np.arange(len(counts)), counts)
        self._number = np.concatenate([np.arange(first, first + count) for first, count in parts])
        self._offset = np.full(len(self._file), -1, np.int64)
        begin = 0
        for held, (first, count) in zip(_offsets(self.files), parts, strict=True):
            there = held[first : first + count]
            self._offset[begin : begin + len(there)] = there
            begin += count

    def __len__(self) -> int:
        return len(self._offset)

    @property
    def missing(self) -> np.ndarray:
        """Indices of missing records."""
        return np.flatnonzero(self._offset < 0)

    def name(self, index: int) -> str:
        """Returns the place of a record, for messages."""
        return f"record {self._number[index]:,} of {self.files[self._file[index]]}"

    def read(self, index: int) -> bytes:
        """Returns the content of a record; `b""` if it is damaged."""
        return _read(self.files[self._file[index]], int(self._offset[index]))


def _read(file: str, offset: int) -> bytes:
    if offset < 0:
        return b""
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            length = tfrecord.length(os.pread(descriptor, tfrecord.HEADER, offset))
            if length is None:
                return b""
            held = os.pread(descriptor, length, offset + tfrecord.HEADER)
            footer = os.pread(descriptor, tfrecord.FOOTER, offset + tfrecord.HEADER + length)
        finally:
            os.close(descriptor)
    except OSError:
        return b""
    return held if footer == tfrecord.checksum(held) else b""


def _offsets(files: list[str]) -> list[np.ndarray]:
    """Returns where the records of each file begin, up to the first damage."""
    paths = [pathlib.Path(file) for file in files]
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    names = [(path.name, size) for path, size in zip(paths, sizes, strict=True)]
    digest = hashlib.sha256(repr(names).encode()).hexdigest()[:16]
    kept = paths[0].with_name(f".offsets-{digest}.npz")
    spoilt = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile
    with contextlib.suppress(*spoilt), np.load(kept) as arrays:
        return np.split(arrays["offsets"], np.cumsum(arrays["counts"])[:-1])
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(_found, files, sizes))
    if all(complete for _, complete in found):
        with contextlib.suppress(OSError), keras_files.aside(kept, shared=True) as aside:
            offsets = [offsets for offsets, _ in found]
            np.savez(aside, offsets=np.concatenate(offsets), counts=list(map(len, offsets)))
    return [offsets for offsets, _ in found]


def _found(file: str, size: int) -> tuple[np.ndarray, bool]:
    """Returns where the records begin, and whether the file is intact to its end."""
    offsets, offset = [], 0
    with contextlib.suppress(OSError), open(file, "rb", buffering=0) as opened:  # noqa: PTH123
        while offset < size:
            length = tfrecord.length(os.pread(opened.fileno(), tfrecord.HEADER, offset))
            if (
                length is None
                or (end := offset + tfrecord.HEADER + length + tfrecord.FOOTER) > size
            ):
                break
            offsets.append(offset)
            offset = end
    return np.array(offsets, np.int64), 0 < size == offset
