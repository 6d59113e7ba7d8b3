import hashlib

import numpy as np
import pytest

from keras_elu.data import cifar


@pytest.fixture(params=["cifar10", "cifar100"])
def made_up(request, tmp_path, monkeypatch):
    """A set with three random images a file, whose checksums count as the published ones."""
    folder, prefix, splits = cifar.FILES[request.param]
    dice, sums, contents = np.random.default_rng(0), {}, {}
    (tmp_path / folder).mkdir()
    for split, files in splits.items():
        for file in files:
            rows = dice.integers(0, 256, (3, prefix + 3072), np.uint8)
            (tmp_path / folder / file).write_bytes(rows.tobytes())
            sums.setdefault(split, {})[file] = hashlib.sha1(rows.tobytes()).hexdigest()
            contents.setdefault(split, []).append(rows)
    monkeypatch.setitem(cifar.FILES, request.param, (folder, prefix, sums))
    return request.param, tmp_path / folder, contents


def test_bytes_are_labels_and_then_planes_of_red_green_and_blue(made_up):
    name, folder, contents = made_up
    found = cifar.read(name, folder)
    assert found.keys() == {"train", "test"}
    for split, (images, labels) in found.items():
        rows = np.concatenate(contents[split])
        assert images.shape == (len(rows), 32, 32, 3)
        assert images.flags.c_contiguous
        # CIFAR-10 has one label, CIFAR-100 a coarse one and then the fine one.
        np.testing.assert_array_equal(labels, rows[:, 0 if name == "cifar10" else 1])
        pixels = rows[:, -3072:]
        for channel in range(3):
            for y, x in ((0, 0), (0, 31), (5, 7), (31, 31)):
                place = channel * 1024 + y * 32 + x
                np.testing.assert_array_equal(images[:, y, x, channel], pixels[:, place])


@pytest.mark.parametrize("below", ["", "{folder}", "{name}", "{name}/{folder}"])
def test_files_are_found_in_the_folder_and_below_it(below, tmp_path):
    for name, (folder, _, splits) in cifar.FILES.items():
        place = tmp_path / "in" / name / below.format(name=name, folder=folder)
        place.mkdir(parents=True)
        assert cifar.find(name, tmp_path / "in" / name) is None
        (place / next(iter(splits["train"]))).write_bytes(b"")
        assert cifar.find(name, tmp_path / "in" / name) == place
    assert cifar.find("mnist", tmp_path / "in" / "cifar10") is None


@pytest.mark.parametrize("damage", ["a bit", "the end", "all"])
def test_a_file_that_is_not_the_published_one_is_refused_by_name(made_up, damage):
    name, folder, _ = made_up
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        if damage == "all":
            file.unlink()
            message = "cannot be read .*; extract the archive again"
        else:
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1] * (damage == "a bit")))
            message = "is not the published file .*; extract the archive again"
        with pytest.raises(ValueError, match=f"{file.name} {message}"):
            cifar.read(name, folder)
        file.write_bytes(content)
    cifar.read(name, folder)


def test_the_real_checksums_are_those_of_the_five_batches_and_the_test():
    _, prefix, splits = cifar.FILES["cifar10"]
    assert prefix == 1
    assert [len(files) for files in splits.values()] == [5, 1]
    sums = [
        sha1 for _, _, s in cifar.FILES.values() for files in s.values() for sha1 in files.values()
    ]
    assert len({*sums}) == 8
