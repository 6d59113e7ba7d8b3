"""Runs that are disturbed at random moments, and must end like an undisturbed run.

python -m tests.torture --kind one --runs 100

Trains the network of trainers/mnist.py on the embedded digits, once undisturbed. Every other run is
disturbed one to three times, at moments spread evenly over the time that the undisturbed one took,
and each time started again with the same command. In the end its weights, optimizer, history,
events and result must be equal in every bit to those of the undisturbed run, and its folder must
hold the same files. Settings, faults and moments follow from --seed and the number of the run. Ends
with 1 if a run differs, and leaves its folder.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import io
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import numpy as np
import tensorflow as tf
import tqdm
from tensorboard.compat.proto import event_pb2

from keras_elu import data, environment
from tests import processes

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = str(ROOT / "trainers" / "mnist.py")
KINDS = {
    "one": (SCRIPT,),
    "two": (SCRIPT, "--strategy", "mirrored", "--virtual_devices", "2"),
    "workers": ("-m", "keras_elu.launch", "--workers", "2", "--restarts", "0", SCRIPT),
}
LENGTH = ("--epochs", "12", "--steps_per_epoch", "25", "--batch_size", "50")
KILL, FLIP, CUT = "SIGKILL", "SIGKILL and a flipped byte", "SIGKILL and a cut file"
KILLS, STOPS, FULL_DISK = (KILL, FLIP, CUT), ("SIGTERM", "SIGINT"), "a full disk"
FAULTS = {"kill": (KILL,), "all": (*KILLS, *STOPS, FULL_DISK)}
BEGUN = "mnist on digits"  # what a run prints before it trains
BEFORE, DURING, AFTER = "before training", "during training", "after the end"
WRITING, RESUMED = "kills while writing a checkpoint", "starts from a checkpoint"
HUNG = 300  # seconds after which a start is given up


@dataclasses.dataclass(frozen=True)
class Fault:
    """What disturbs a run, and when: at which part of the time that an undisturbed one takes."""

    name: str
    moment: float
    where: float  # in the file, or among the workers


def draw(seed: int, number: int, names: Sequence[str]) -> tuple[list[str], list[Fault]]:
    """Returns the flags of a run, and what disturbs it."""
    dice = random.Random(f"{seed} {number}")
    every, steps, count = dice.choice("137"), dice.choice("14"), dice.choice((1, 1, 2, 3))
    faults = [Fault(dice.choice(names), dice.random(), dice.random()) for _ in range(count)]
    return ["--checkpoint_every", every, "--steps_per_execution", steps], faults


class Start:
    """A process that starts or resumes a run, with its output in `log`."""

    def __init__(self, kind: str, flags: Sequence[str], run: pathlib.Path, log: pathlib.Path):
        self._workers, self._log = kind == "workers", log
        command = [sys.executable, *KINDS[kind], "--dataset", "digits", *LENGTH, *flags]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [*command, "--run_dir", run], stdout=file, stderr=subprocess.STDOUT
            )
        self._started, self._clock = time.monotonic(), time.time()

    def __contains__(self, text: str) -> bool:
        return text in self._log.read_text(errors="replace")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def wait(self, seconds: float = HUNG) -> int | None:
        """Returns the exit code; None if the process still runs after so many seconds."""
        try:
            return self._process.wait(max(0, seconds))
        except subprocess.TimeoutExpired:
            return None

    def wait_for_training(self) -> float:
        """Returns the seconds after which training began, or the process ended."""
        while BEGUN not in self and self.wait(0.01) is None and self.seconds < HUNG:
            pass
        return self.seconds

    def left_unfinished(self, run: pathlib.Path) -> bool:
        """Whether the process was writing a checkpoint when it ended."""
        paths = run.glob("checkpoints/unfinished-*")
        return any(path.stat().st_mtime > self._clock for path in paths)

    def signal(self, name: str) -> None:
        self._process.send_signal(signal.Signals[name])

    def kill(self, where: float) -> None:
        """Kills the process; of workers the first, the second or both, and launch if it has none.

        Without launch, workers would continue.
        """
        if not self._workers:
            self.signal("SIGKILL")
            return
        self.signal("SIGSTOP")  # so that it starts none meanwhile
        pid = self._process.pid
        workers = processes.children(pid, b"trainers")
        for child in [workers[:1], workers[1:], workers][int(where * 3)] or [pid]:
            os.kill(child, signal.SIGKILL)
        self.signal("SIGCONT")


class Undisturbed:
    """The run that all others are compared with, in contents and in time."""

    def __init__(self, kind: str, folder: pathlib.Path):
        folder.mkdir()
        start = Start(kind, ("--checkpoint_every", "3"), folder / "run", folder / "log-0.txt")
        self.training = start.wait_for_training()
        if start.wait() != 0:
            raise RuntimeError(f"the undisturbed run failed: see {folder}")
        self.seconds = start.seconds
        self.contents = contents(folder / "run")


class Run:
    """A run that is disturbed.

    Attributes:
        counts: What happened, and how often.
        problems: What should not have been.
    """

    def __init__(self, kind: str, flags: Sequence[str], undisturbed: Undisturbed):
        self._kind, self._flags, self._undisturbed = kind, flags, undisturbed
        self._damaged = False
        self.counts, self.problems = collections.Counter(), []

    def do(self, faults: Sequence[Fault], folder: pathlib.Path) -> None:
        """Starts it in a folder, once for every fault and once without, or until it is done."""
        self._disk, self._run = folder / "disk", folder / "disk" / "run"
        self._disk.mkdir(parents=True)
        own_disk = any(fault.name == FULL_DISK for fault in faults)
        with mounted(self._disk) if own_disk else contextlib.nullcontext():
            for number, fault in enumerate([*faults, None]):
                if self._start(fault, folder / f"log-{number}.txt") in (0, None):
                    break
            try:
                self.problems += differences(contents(self._run), self._undisturbed.contents)
            except Exception as error:
                self.problems.append(f"its files cannot be read: {error!r}")
        self.counts["equal"] = int(not self.problems)

    def _start(self, fault: Fault | None, log: pathlib.Path) -> int | None:
        """Returns the exit code; None if there is none."""
        self.counts["starts"] += 1
        start = Start(self._kind, self._flags, self._run, log)
        when = self._disturb(start, fault) if fault else None
        code = start.wait()
        if code is None:
            start.kill(0.9)
            start.wait()
            self.problems.append(f"{log.name}: it hung")
            return None
        self.counts[RESUMED] += "resuming after step" in start
        if self._damaged and BEGUN in start:
            self._damaged = False
            if "is damaged" not in start:
                self.problems.append(f"{log.name}: the damaged checkpoint was not noticed")
        finished = (self._run / "result.json").exists()
        expected = {code}
        if when is None:
            expected = {0}
        elif fault.name == FULL_DISK:  # it may be too full to begin, or for the result
            expected = {0} if "Traceback" in start else {0, 1, 2}
        elif fault.name in STOPS and when == DURING and not finished:
            expected = {os.EX_TEMPFAIL}
        elif fault.name in KILLS:
            self.counts[WRITING] += start.left_unfinished(self._run)
            self._damaged |= self._damage(fault)
        if code not in expected:
            self.problems.append(f"{log.name}: ended with {code} instead of {expected}")
        if fault:
            late = when is None or (finished and fault.name != FULL_DISK)
            self.counts.update([fault.name, AFTER if late else when])
        return code

    def _disturb(self, start: Start, fault: Fault) -> str | None:
        """Waits for the moment, and disturbs; returns when that was, None if it was too late."""
        moment = fault.moment * self._undisturbed.seconds
        if moment > self._undisturbed.training:  # this one may be slower or faster
            moment *= start.wait_for_training() / self._undisturbed.training
        if start.wait(moment - start.seconds) is not None:
            return None
        when = DURING if BEGUN in start else BEFORE
        if fault.name == FULL_DISK:
            with full(self._disk):
                start.wait(3 * fault.where)
        elif fault.name in STOPS:
            start.signal(fault.name)
        else:
            start.kill(fault.where)
        return when

    def _damage(self, fault: Fault) -> bool:
        """Damages the newest checkpoint, if the fault is that and there is one."""
        paths = list(self._run.glob("checkpoints/step-*"))
        if fault.name == KILL or not paths:
            return False
        path = max(paths, key=lambda path: path.stat().st_mtime_ns)
        content = bytearray(path.read_bytes())
        place = int(fault.where * len(content))
        if fault.name == CUT:
            del content[place:]
        else:
            content[place] ^= 1 << place % 8
        path.write_bytes(content)
        return True


def contents(run: pathlib.Path) -> dict[str, Any]:
    """Returns all that the folder of a run holds, except for what depends on time."""
    found = {}
    for path in run.rglob("*"):
        name = str(path.relative_to(run))
        if path.name.startswith("events.out.tfevents."):
            for tag, value in events(path):
                found.setdefault(f"{path.parent.name}, {tag}", []).append(value)
        elif path.name == "model.keras":
            found |= {f"{name}, {key}": value for key, value in weights(path).items()}
        elif path.name == "history.csv":
            rows = list(csv.DictReader(path.read_text().splitlines()))
            found |= {f"{name}, {i} {k}": v for i, row in enumerate(rows) for k, v in row.items()}
        elif path.name == "result.json":
            found |= {f"{name}, {k}": v for k, v in json.loads(path.read_text()).items()}
        elif path.suffix == ".npz":  # its name ends with a digest of its contents, times among them
            step = path.stem.rpartition("-")[0]
            with np.load(path) as arrays:
                found |= {f"{step}, {k}": arrays[k].tobytes() for k in arrays if k != "state"}
        elif path.is_file():
            found[name] = "there"
    # Times differ between any two runs, and so do the checkpoint settings in the configuration.
    of_one = re.compile(r" speed/|(images_per_second|[ _]seconds|, 0 config)$")
    return {key: value for key, value in found.items() if not of_one.search(key)}


def events(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields the step with the tag, and the value, of what a file of events holds."""
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        event = event_pb2.Event.FromString(record)
        for value in event.summary.value:
            yield f"{event.step} {value.tag}", value.tensor.SerializeToString()


def weights(path: pathlib.Path) -> dict[str, Any]:
    """Returns name, type, shape and bytes of the weights of a model and its optimizer."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = f"{item.dtype}{item.shape}", item[()].tobytes()

    with zipfile.ZipFile(path) as archive:
        file = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(file) as opened:
        opened.visititems(visit)
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    keys = [k for k in sorted(found.keys() | expected.keys()) if found.get(k) != expected.get(k)]
    shown = [f"{k}: {found.get(k)!r:.70} instead of {expected.get(k)!r:.70}" for k in keys[:8]]
    return [*shown, f"and {len(keys) - 8} more differences"] if len(keys) > 8 else shown


@contextlib.contextmanager
def mounted(folder: pathlib.Path) -> Iterator[None]:
    """Makes a folder a disk of its own, with room for a run and hardly more."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "torture", folder]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        shutil.copytree(folder, folder.with_name("copy"))
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def full(disk: pathlib.Path) -> Iterator[None]:
    """Leaves no room on a disk."""
    path = disk / "filling"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    try:
        yield
    finally:
        path.unlink()


def may_mount(folder: pathlib.Path) -> bool:
    folder.mkdir(parents=True)
    try:
        with mounted(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bound = parser.add_mutually_exclusive_group(required=True)
    bound.add_argument("--runs", type=int, metavar="N", help="disturbed runs")
    bound.add_argument("--minutes", type=float, metavar="M", help="begin no run after so many")
    parser.add_argument("--kind", choices=KINDS, required=True, help="replicas, or processes")
    parser.add_argument("--faults", choices=FAULTS, default="kill", help="(default: kill)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at once (default: 1)")
    parser.add_argument("--results", type=pathlib.Path, help="file that gets a line of JSON")
    return parser.parse_args()


def main() -> int:
    asked, began = parse(), time.monotonic()
    home = pathlib.Path(tempfile.mkdtemp(prefix="torture-"))
    os.environ |= {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(home / "data")}
    data.load("digits", data_dir=home / "data")
    names = FAULTS[asked.faults]
    if FULL_DISK in names and not may_mount(home / "mount" / "disk"):
        names = tuple(name for name in names if name != FULL_DISK)
        print("No disk gets full: this user may not mount one.")
    undisturbed = Undisturbed(asked.kind, home / "undisturbed")
    numbers = itertools.count() if asked.runs is None else iter(range(asked.runs))
    runs = []

    def work():
        while asked.minutes is None or time.monotonic() - began < 60 * asked.minutes:
            number = next(numbers, None)
            if number is None:
                return
            flags, faults = draw(asked.seed, number, names)
            run = Run(asked.kind, flags, undisturbed)
            run.do(faults, home / str(number))
            runs.append(run)
            bar.update()
            if run.problems:
                of = f"--seed {asked.seed}, run {number} in {home / str(number)}: {' '.join(flags)}"
                bar.write("\n    ".join([of, *map(str, faults), *run.problems]))
            else:
                shutil.rmtree(home / str(number))

    with (
        tqdm.tqdm(total=asked.runs, unit="run") as bar,
        concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool,
    ):
        for job in [pool.submit(work) for _ in range(asked.jobs)]:
            job.result()
    counts = sum((run.counts for run in runs), collections.Counter())
    summary = {"kind": asked.kind, "faults": asked.faults, "seed": asked.seed, "runs": len(runs)}
    shown = (*names, BEFORE, DURING, AFTER, WRITING, "starts", RESUMED, "equal")
    summary |= {name: counts[name] for name in shown}
    summary["seconds"] = round(time.monotonic() - began, 1)
    for name, value in summary.items():
        print(f"{name:<40} {value}")
    if asked.results:
        environment.append(asked.results, summary | {"environment": environment.describe()})
    if counts["equal"] < len(runs):
        return 1
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
