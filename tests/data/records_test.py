import os

import numpy as np
import pytest
import tensorflow as tf

from keras_elu.data.records import Records

HELD = [[f"{file} {number}".encode() * (number + 1) for number in range(5)] for file in range(2)]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"set-train.tfrecord-{number}" for number in range(2)]
    for path, held in zip(paths, HELD, strict=True):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in held:
                writer.write(record)
    return paths


def read(records, order):
    return [records.read(index) for index in order]


def test_any_records_are_read_in_any_order(files):
    records = Records(files, [(1, 3), (0, 5)])
    assert len(records) == 8
    wanted = HELD[0][1:4] + HELD[1]
    order = np.random.default_rng(0).permutation(8)
    assert read(records, order) == [wanted[index] for index in order]
    assert records.name(4) == f"record 1 of {files[1]}"


def test_where_they_begin_is_kept_for_the_next_time(files):
    first = Records(files, [(0, 5), (0, 5)])
    (kept,) = files[0].parent.glob(".offsets-*.npz")
    for file in files:  # so that a second search would find none
        with file.open("r+b") as opened:
            opened.write(bytes(12))
    again = Records(files, [(0, 5), (0, 5)])
    assert again.missing.tolist() == first.missing.tolist() == []
    assert read(again, range(10)) == [b"", *HELD[0][1:], b"", *HELD[1][1:]]
    whole = kept.read_bytes()
    for spoilt in (b"not what was written", whole[: len(whole) // 2], b""):
        kept.write_bytes(spoilt)
        assert Records(files, [(0, 5), (0, 5)]).missing.tolist() == list(range(10))


def test_a_folder_that_cannot_be_written_is_read_all_the_same(files, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("keras_elu.files.aside", refuse)
    assert Records(files, [(0, 5), (0, 5)]).read(9) == HELD[1][4]
    assert sorted(files[0].parent.iterdir()) == files


def test_every_byte_that_is_flipped_is_noticed(files):
    records = Records(files, [(0, 5), (0, 5)])
    content = files[0].read_bytes()
    begin, length = content.index(HELD[0][1]) - 12, 12 + len(HELD[0][1]) + 4
    for place in range(begin, begin + length):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        files[0].write_bytes(damaged)
        assert read(records, range(5)) == [HELD[0][0], b"", *HELD[0][2:]]


@pytest.mark.parametrize("cut", [1, 20, 50])
def test_of_a_file_that_is_cut_the_rest_is_missing(files, cut):
    os.truncate(files[1], files[1].stat().st_size - cut)
    records = Records(files, [(0, 5), (0, 5)])
    assert records.missing.tolist() == ([8, 9] if cut == 50 else [9])
    found = read(records, range(10))
    assert found == [*HELD[0], *HELD[1][:3], b"" if cut == 50 else HELD[1][3], b""]
    assert not list(files[0].parent.glob(".offsets-*"))


def test_a_file_that_is_not_there_is_missing(files):
    files[0].unlink()
    records = Records(files, [(0, 5), (0, 5)])
    assert records.missing.tolist() == [0, 1, 2, 3, 4]
    assert read(records, [0, 5]) == [b"", HELD[1][0]]
