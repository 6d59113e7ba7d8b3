import errno
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from keras_elu import files


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path, shared):
    path = tmp_path / "file"
    path.write_text("old")
    with files.aside(path, shared) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with files.aside(path) as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_shared_files_are_written_under_different_names(tmp_path):
    with files.aside(tmp_path / "file", shared=True) as one:
        one.write_text("one")
        with files.aside(tmp_path / "file", shared=True) as other:
            other.write_text("other")
        assert (tmp_path / "file").read_text() == "other"
    assert (tmp_path / "file").read_text() == "one"


def record_syncs(monkeypatch):
    """The calls of fsync and rename, in order, by the names of the files."""
    calls, fsync, replace = [], os.fsync, pathlib.Path.replace

    def synced(descriptor):
        calls.append(("sync", pathlib.Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def replaced(self, target):
        calls.append(("rename", self.name, target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(pathlib.Path, "replace", replaced)
    return calls


def test_content_reaches_the_disk_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    calls = record_syncs(monkeypatch)
    files.write_json(tmp_path / "a.json", {})
    assert calls == [
        ("sync", "unfinished-a.json"),
        ("rename", "unfinished-a.json", "a.json"),
        ("sync", tmp_path.name),
    ]


def test_a_folder_is_complete_with_all_its_files(tmp_path, monkeypatch):
    (tmp_path / "unfinished").mkdir()
    for name in ("a", "b"):
        (tmp_path / "unfinished" / name).write_text(name)
    calls = record_syncs(monkeypatch)
    files.complete(tmp_path / "unfinished", tmp_path / "final")
    assert sorted(calls[:2]) == [("sync", "a"), ("sync", "b")]
    assert calls[2:] == [
        ("sync", "unfinished"),
        ("rename", "unfinished", "final"),
        ("sync", tmp_path.name),
    ]


@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_only_a_disk_that_cannot_sync_is_excused(tmp_path, monkeypatch, number, refused):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if refused:
        with pytest.raises(OSError, match="Input/output"):
            files.write_json(tmp_path / "a.json", {})
    else:
        files.write_json(tmp_path / "a.json", {"b": "é"})
        assert files.read_json(tmp_path / "a.json") == {"b": "é"}


def test_json_that_is_missing_is_empty_and_a_damaged_config_is_refused(tmp_path):
    assert files.read_json(tmp_path / "a.json") == {}
    for content, message in {
        b"[1]": "does not hold a JSON object",
        b"{": "is not JSON",
        b"\xff": "is not JSON",
        b" " * (2**16 + 1): "longer than a config.json",
    }.items():
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            files.read_object(tmp_path / "a.json")


HOLDER = """
import pathlib, sys, time
from keras_elu import files
held = files.lock(pathlib.Path(sys.argv[1]), "the folder")
print("locked", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        assert files.is_locked(path)
        for _ in range(2):  # a failed attempt leaves the owner's name
            with pytest.raises(ValueError, match=f"the set is in use by process {process.pid} on"):
                files.lock(path, "the set")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not files.is_locked(path)
    with files.lock(path, "the set"):
        assert files.is_locked(path)
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not files.is_locked(path)


def test_a_folder_is_writable_or_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_writable(tmp_path / "new" / ".." / "other", "--flag")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]
    with pytest.raises(ValueError, match=r"--flag .*file is not a folder"):
        files.check_writable(tmp_path / "file", "--flag")
    with pytest.raises(ValueError, match=r"--flag .*below cannot be written: .*file forbids it"):
        files.check_writable(tmp_path / "file" / "below", "--flag")
    with (
        pytest.raises(ValueError, match=r"x+ cannot be the folder of the run \(File name too long"),
        files.usable("--flag"),
    ):
        files.check_writable(tmp_path / ("x" * 300), "--flag")
