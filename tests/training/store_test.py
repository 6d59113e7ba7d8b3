"""Checkpoints on disk, and real damage to them."""

import errno
import hashlib
import io
import json
import os
import pathlib
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


def test_one_that_cannot_be_read_is_no_damage_and_stays(tmp_path, monkeypatch, capsys):
    saved(tmp_path, 1, 2)
    before, opening = files(tmp_path), pathlib.Path.open

    def refuse(self, mode="r", *arguments, **keywords):
        if self.name.startswith("step-00000002-"):
            raise OSError(errno.EIO, "Input/output error", str(self))
        return opening(self, mode, *arguments, **keywords)

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(
        ValueError, match=r"step-00000002-.*npz cannot be read \(Input/output error"
    ):
        Store(tmp_path).newest()
    assert (files(tmp_path), capsys.readouterr().err) == (before, "")


def test_one_that_vanishes_after_it_was_listed_does_not_count(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / f"step-00000002-{'0' * 16}.npz").symlink_to(tmp_path / "vanished")
    assert Store(tmp_path).newest().step == 1


def test_one_whose_state_is_not_an_object_is_damaged(tmp_path, capsys):
    content = io.BytesIO()
    np.savez(content, state=np.array(json.dumps([1, 2])))
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    (tmp_path / f"step-00000001-{digest}.npz").write_bytes(content.getvalue())
    assert Store(tmp_path).newest() is None
    assert "is damaged" in capsys.readouterr().err


def test_processes_killed_while_they_write_leave_one_file_until_the_next_is_written(
    tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(store.files, "complete", lambda *paths: 1 / 0)
        for step in (1, 2):
            with pytest.raises(ZeroDivisionError):
                saved(tmp_path, step)
    (unfinished,) = files(tmp_path)
    assert unfinished.startswith("unfinished-")
    saved(tmp_path, 3)
    assert [name[:13] for name in files(tmp_path)] == ["step-00000003"]


def test_a_run_that_stops_is_given_the_last_step_that_is_saved(tmp_path, monkeypatch, capsys):
    def refuse(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "complete", refuse)
        with pytest.raises(CannotSave, match=r"step 1 could not .*: there is no checkpoint, and"):
            saved(tmp_path, 1).check_saved(1)
    made = saved(tmp_path, 1)
    made.check_saved(1)
    with monkeypatch.context() as patch:
        patch.setattr(store.files, "complete", refuse)
        made.write(Checkpoint(2, {}, ARRAYS))
        with pytest.raises(CannotSave, match=r"step 2 could not .* checkpoint, after step 1\.$"):
            made.check_saved(2)
    made.write(Checkpoint(3, {}, ARRAYS))
    made.check_saved(3)
    resumed = Store(tmp_path)
    resumed.newest()
    resumed.check_saved(3)


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
