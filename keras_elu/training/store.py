"""Checkpoints on disk. Only complete and intact files count."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import time
import zipfile
from typing import Any

import numpy as np

from keras_elu import files

FORMAT = 1
SECONDS_WITHOUT_SAVING = 1800  # How long a run continues when the disk refuses every write.

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.npz")


class CannotSave(OSError):
    """No checkpoint could be written for half an hour, or when the run was stopped."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to resume.

    Attributes:
        step: Number of training steps done.
        state: The part that JSON can hold.
        arrays: The variables, and the weights that callbacks keep.
    """

    step: int
    state: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Store:
    """The latest checkpoints of a run, in one folder.

    Each file is written under a temporary name, synced to the disk, and then renamed. The final
    name holds the first 16 digits of the file's SHA-256, which is checked before the file is read.

    Args:
        folder: The folder, created by the first write.
        keep: Number of files to keep.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        self._folder = folder
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future | None = None
        self._failing_since: float | None = None
        self._damaged: list[pathlib.Path] = []
        self._last: int | None = None  # the step of the newest checkpoint

    def newest(self) -> Checkpoint | None:
        """Returns the newest intact checkpoint, and names damaged ones on stderr.

        Raises:
            ValueError: If another version of the package wrote it, or if it cannot be read.
        """
        self._damaged = []
        found = None
        for path in reversed(self._files()):
            found = read(path)
            if found is not None:
                break
            self._damaged.append(path)
        for path in self._damaged:
            instead = "there is no earlier one" if found is None else "the previous one is used"
            print(f"{path} is damaged: {instead}", file=sys.stderr, flush=True)
        self._last = None if found is None else found.step
        return found

    @property
    def busy(self) -> bool:
        """Whether the latest checkpoint is still being written."""
        return self._writing is not None and not self._writing.done()

    def write(self, checkpoint: Checkpoint) -> None:
        """Waits for the previous checkpoint, then starts writing this one in the background.

        If the disk refuses, a line on stderr says so, and earlier files stay.

        Raises:
            CannotSave: If the disk has refused for half an hour.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, checkpoint)

    def wait(self) -> None:
        """Waits until nothing is being written. Raises as `write` does."""
        if self._writing is not None:
            self._writing.result()
        if self._failing_since is not None:
            seconds = time.monotonic() - self._failing_since
            if seconds > SECONDS_WITHOUT_SAVING:
                raise CannotSave(
                    f"No checkpoint could be written to {self._folder} for {seconds:.0f} s: make "
                    "room there and repeat the command."
                )

    def check_saved(self, step: int) -> None:
        """Waits as `wait`, and raises `CannotSave` if the newest checkpoint is of another step."""
        self.wait()
        if self._last != step:
            then = "there is no checkpoint, and the same command begins again"
            if self._last is not None:
                then = (
                    f"the same command resumes from the last checkpoint, after step {self._last:,}"
                )
            raise CannotSave(
                f"The run stopped, but step {step:,} could not be saved in {self._folder}: {then}."
            )

    def clear(self, all_but: int = 0) -> None:
        """Removes all files, except for the newest `all_but`."""
        self.wait()
        paths = self._files()
        for path in [*paths[: len(paths) - all_but], *self._folder.glob("unfinished-*")]:
            path.unlink(missing_ok=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _files(self) -> list[pathlib.Path]:
        """The files, oldest first."""
        ages = {}
        for path in self._folder.glob("step-*.npz"):
            if name := _NAME.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # The chief removes old ones.
                    ages[path] = int(name[1]), path.stat().st_mtime_ns
        return sorted(ages, key=ages.get)

    def _write(self, checkpoint: Checkpoint) -> None:
        unfinished = self._folder / "unfinished-step.npz"  # Replaces that of a killed process.
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                hashing = _Hashing(file)
                text = json.dumps({"format": FORMAT, "step": checkpoint.step} | checkpoint.state)
                np.savez(hashing, state=np.array(text), **checkpoint.arrays)
            digest = hashing.hash.hexdigest()[:16]
            files.complete(unfinished, self._folder / f"step-{checkpoint.step:08}-{digest}.npz")
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                print(
                    f"the checkpoint of step {checkpoint.step:,} could not be written "
                    f"({error.strerror}): the run continues, and the previous one stays",
                    file=sys.stderr,
                    flush=True,
                )
            return
        self._last = checkpoint.step
        if self._failing_since is not None:
            self._failing_since = None
            print(
                f"checkpoints are written again, from step {checkpoint.step:,}",
                file=sys.stderr,
                flush=True,
            )
        for path in self._damaged:
            path.unlink(missing_ok=True)
        self._damaged = []
        for path in self._files()[: -self._keep]:
            path.unlink(missing_ok=True)


class _Hashing:
    """A file, open for writing, that hashes the bytes written to it."""

    def __init__(self, file):
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data) -> int:
        self.hash.update(data)
        return self._file.write(data)

    def read(self, *_):  # NumPy takes only objects with a `read` for files.
        raise OSError("for writing only")

    def flush(self) -> None:
        self._file.flush()


def read(path: pathlib.Path) -> Checkpoint | None:
    """Returns the checkpoint in a file, or None if the file is damaged or does not exist.

    Raises:
        ValueError: With one sentence, if the file cannot be read, or if another version of the
            package wrote it.
    """
    name = _NAME.fullmatch(path.name)
    if name is None:
        return None
    try:
        with path.open("rb") as file:
            if not hashlib.file_digest(file, "sha256").hexdigest().startswith(name[2]):
                return None
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                state = json.loads(str(arrays["state"]))
                values = {name: arrays[name] for name in arrays.files if name != "state"}
    except (FileNotFoundError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error
    if not isinstance(state, dict):
        return None
    if state.pop("format", None) != FORMAT:
        raise ValueError(
            f"{path} was written by another version of keras_elu: name a new folder, or use "
            "that version."
        )
    return Checkpoint(state.pop("step"), state, values)
