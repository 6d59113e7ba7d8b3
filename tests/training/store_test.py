"""Checkpoints on disk, and real damage to them."""

import os
import random
import re
import subprocess

import numpy as np
import pytest

from keras_elu.training import store
from keras_elu.training.store import CannotSave, Checkpoint, Store

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "a": RANDOM.normal(size=(3, 4)).astype("float32"),
    "b": np.array(7, "int64"),
    "c": RANDOM.normal(size=100),
}


def saved(folder, *steps, keep=2):
    made = Store(folder, keep)
    for step in steps:
        made.write(Checkpoint(step, {"epoch": step / 10}, ARRAYS | {"step": np.array(step)}))
    made.wait()
    return made


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(tmp_path):
    saved(tmp_path / "new", 3)
    found = Store(tmp_path / "new").newest()
    assert (found.step, found.state) == (3, {"epoch": 0.3})
    assert found.arrays.keys() == ARRAYS.keys() | {"step"}
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_there_is_none_at_first(tmp_path):
    assert Store(tmp_path).newest() is None
    assert Store(tmp_path / "none").newest() is None


def test_the_latest_are_kept_in_the_order_of_their_steps(tmp_path):
    saved(tmp_path, 9, 10, 100, 99, keep=3)
    assert [int(name.split("-")[1]) for name in files(tmp_path)] == [10, 99, 100]
    assert Store(tmp_path).newest().step == 100


def test_of_one_step_the_later_one_counts(tmp_path):
    made = saved(tmp_path, 5)
    made.write(Checkpoint(5, {"epoch": "later"}, ARRAYS))
    made.wait()
    assert Store(tmp_path).newest().state == {"epoch": "later"}


def damage():
    """Where a file is damaged, as a share of its length, and how."""
    draw = random.Random(0)
    flips = [("flipped", draw.random()) for _ in range(60)]
    cuts = [("cut", draw.random()) for _ in range(20)]
    return [*flips, *cuts, ("flipped", 0.0), ("cut", 0.0), ("cut", 0.9999)]


def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, capsys):
    saved(tmp_path, 1, 2)
    (newest,) = tmp_path.glob("step-00000002-*")
    whole = newest.read_bytes()
    for how, place in damage():
        position = int(place * len(whole))
        broken = bytearray(whole)
        if how == "cut":
            del broken[position:]
        else:
            broken[position] ^= 1 << (position % 8)
        newest.write_bytes(broken)
        assert Store(tmp_path).newest().step == 1, (how, position)
        assert capsys.readouterr().err == f"{newest} is damaged: the previous one is used\n"
    newest.write_bytes(whole)
    assert Store(tmp_path).newest().step == 2


def test_damaged_ones_do_not_count_among_those_that_are_kept(tmp_path, capsys):
    saved(tmp_path, 1, 2)
    (newest,) = tmp_path.glob("step-00000002-*")
    newest.write_bytes(b"")
    made = Store(tmp_path)
    assert made.newest().step == 1
    made.write(Checkpoint(2, {}, ARRAYS))
    made.wait()
    assert [Store(tmp_path).newest().step, len(files(tmp_path))] == [2, 2]
    assert not newest.exists()
    assert "is damaged" in capsys.readouterr().err


def test_where_all_are_damaged_the_run_begins(tmp_path, capsys):
    saved(tmp_path, 1)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    assert Store(tmp_path).newest() is None
    assert "there is no earlier one" in capsys.readouterr().err


def test_one_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FORMAT", 0)
    saved(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"another version of keras_elu: .*\.$"):
        Store(tmp_path).newest()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_the_last_one_stays_and_later_ones_are_written_again(small_disk, capsys):
    made = saved(small_disk, 1)
    before = files(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (os.statvfs(small_disk).f_bavail * 4096 - 4096))
    made.write(Checkpoint(2, {}, {"large": np.zeros(4000)}))
    made.wait()
    message = capsys.readouterr().err
    assert re.fullmatch(
        r"the checkpoint of step 2 could not be written \(No space left on device\): .*\n", message
    )
    assert files(small_disk) == sorted([*before, "filler"])
    assert Store(small_disk).newest().step == 1
    filler.unlink()
    made.write(Checkpoint(3, {}, {"large": np.zeros(4000)}))
    made.wait()
    assert Store(small_disk).newest().step == 3
    assert capsys.readouterr().err == "checkpoints are written again, from step 3\n"


def test_a_disk_that_is_full_for_long_stops_the_run(small_disk, monkeypatch, capsys):
    monkeypatch.setattr(store, "SECONDS_WITHOUT_SAVING", 0)
    made = Store(small_disk)
    made.write(Checkpoint(1, {}, {"large": np.zeros(40_000)}))
    with pytest.raises(CannotSave, match="make room"):
        made.wait()


def test_all_is_cleared(tmp_path):
    made = saved(tmp_path / "run", 1, 2)
    (tmp_path / "run" / "unfinished-3.npz").write_bytes(b"half")
    made.clear()
    assert list(tmp_path.iterdir()) == []
