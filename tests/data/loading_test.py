import gzip
import hashlib
import io
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import types

import cv2
import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds

from keras_elu import data
from keras_elu.data import cifar, crops, decoding, fetching, loading

REAL = os.environ.get("KERAS_ELU_DATA")
real_data = pytest.mark.skipif(not REAL, reason="KERAS_ELU_DATA is not set")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture
def made_up_cifar(tmp_path, monkeypatch):
    """Two images a file, of which the checksums are declared to be the published ones."""
    folders = {}
    for name, (folder, prefix, splits) in cifar.FILES.items():
        path = tmp_path / "archives" / name / folder
        path.mkdir(parents=True)
        sums, number = {}, 0
        for split, files in splits.items():
            for file in files:
                rows = np.zeros((2, prefix + 3072), np.uint8)
                for row in rows:
                    row[:prefix] = (90, number)[-prefix:]
                    row[prefix : prefix + 1024] = number  # red
                    row[prefix + 2048 + 31] = 255  # blue, at the end of the first line
                    number += 1
                (path / file).write_bytes(rows.tobytes())
                sums.setdefault(split, {})[file] = hashlib.sha1(rows.tobytes()).hexdigest()
        monkeypatch.setitem(cifar.FILES, name, (folder, prefix, sums))
        folders[name] = path
    return folders


def sentence(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def test_importing_the_package_does_not_import_tfds():
    code = "import sys, keras_elu.data; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_digits_prepares_itself_and_holds_every_image_of_scikit_learn(tmp_path, capfd):
    assert not data.is_prepared("digits", tmp_path)
    dataset = data.load("digits", data_dir=tmp_path / "new")
    assert data.is_prepared("digits", tmp_path / "new")
    assert dataset.examples == {"train": 1237, "validation": 200, "test": 360}
    assert dataset.classes == 10
    assert dataset.image_shape == (8, 8, 1)
    assert "tensorflow_datasets" not in capfd.readouterr().out
    splits = {}
    for split in dataset.examples:
        batches = list(dataset.evaluation(split, 100))
        images = np.concatenate([x for x, _ in batches])
        splits[split] = images, np.concatenate([y for _, y in batches])
    assert np.bincount(splits["test"][1]).tolist() == [36] * 10
    images = np.concatenate([x for x, _ in splits.values()]).reshape(-1, 64)
    labels = np.concatenate([y for _, y in splits.values()])
    source = sklearn.datasets.load_digits()
    ours = sorted((*np.rint(x * 16).astype(int), y) for x, y in zip(images, labels, strict=True))
    assert ours == sorted(
        (*x.astype(int), y) for x, y in zip(source.data, source.target, strict=True)
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["digits"]


def test_a_prepared_set_is_read_whatever_the_manual_dir(tmp_path):
    data.load("digits", data_dir=tmp_path)
    stamp = (tmp_path / "digits" / "1.0.0").stat().st_mtime_ns
    assert data.load("digits", data_dir=tmp_path, manual_dir="/nowhere").examples["test"] == 360
    assert (tmp_path / "digits" / "1.0.0").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_binary_files_wherever_they_sensibly_lie(
    name, made_up_cifar, tmp_path
):
    inside = made_up_cifar[name]
    for manual_dir in (inside, inside.parent, inside.parent.parent):
        dataset = data.load(
            name, data_dir=tmp_path / "none", manual_dir=manual_dir, validation_examples=1
        )
        files = 5 if name == "cifar10" else 1
        assert dataset.examples == {"train": 2 * files - 1, "validation": 1, "test": 2}
        ((images, labels),) = dataset.evaluation("train", 100)
        assert labels.numpy().tolist() == list(range(2 * files - 1))
        np.testing.assert_allclose(images[:, 5, 7, 0], labels.numpy() / 255, rtol=1e-6)
        assert images.numpy()[:, 0, 31, 2].tolist() == [1.0] * len(labels)
        assert np.count_nonzero(images[..., 2]) == len(labels)
        ((_, labels),) = dataset.evaluation("validation", 100)
        assert labels.numpy().tolist() == [2 * files - 1]
    assert not (tmp_path / "none").exists()


def test_a_damaged_binary_file_is_refused_by_name(made_up_cifar, tmp_path):
    folder = made_up_cifar["cifar10"]
    file = folder / "data_batch_3.bin"
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[1234] ^= 1
    for content in (bytes(flipped), good[:-1], b""):
        file.write_bytes(content)
        with pytest.raises(
            data.NotFound, match=r"data_batch_3\.bin is not the published file"
        ) as caught:
            data.load("cifar10", data_dir=tmp_path / "none", manual_dir=folder)
        sentence(caught)
    file.unlink()
    with pytest.raises(data.NotFound, match=r"data_batch_3\.bin cannot be read") as caught:
        data.load("cifar10", data_dir=tmp_path / "none", manual_dir=folder)
    sentence(caught)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-binary.tar.gz or the extracted folder cifar-10-batches-bin"),
        ("cifar100", "cifar-100-binary.tar.gz or the extracted folder cifar-100-binary"),
        ("imagenet2012", "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar"),
        ("imagenette", "imagenette2.tgz"),
        ("kmnist", "train-images-idx3-ubyte.gz"),
    ],
)
def test_what_is_missing_gets_one_sentence_with_the_ways_to_get_it(name, wanted, tmp_path):
    folder, empty = tmp_path / "data" / "new", tmp_path / "empty"
    empty.mkdir()
    for manual_dir in (None, empty):
        with pytest.raises(data.NotFound) as caught:
            data.load(name, data_dir=folder, manual_dir=manual_dir)
        text = sentence(caught)
        assert name in text
        assert wanted in text
        assert str(folder) in text
        assert str(empty) in text if manual_dir else "manual_dir" in text
        assert not (tmp_path / "data").exists()
    assert not data.is_prepared(name, folder)


def bytes_of_idx(images=3):
    return gzip.compress(b"\0\0\x08\x03" + bytes(12) + bytes(784 * images))


@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_archives_that_are_not_the_originals_are_refused_by_name(subfolder, tmp_path):
    folder = tmp_path / "archives" / subfolder
    folder.mkdir(parents=True)
    for file in fetching.IDX:
        (folder / file).write_bytes(bytes_of_idx())
    with pytest.raises(
        data.NotFound, match=r"t10k-images-idx3-ubyte\.gz is not the original"
    ) as caught:
        data.load("mnist", data_dir=tmp_path / "new", manual_dir=tmp_path / "archives")
    sentence(caught)
    assert not (tmp_path / "new").exists()


def test_an_archive_that_only_fails_while_it_is_read_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = tmp_path / "archives"
    folder.mkdir()
    for name in ("train", "val"):
        with tarfile.open(folder / f"ILSVRC2012_img_{name}.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("n01440764.tar"), io.BytesIO())
    with pytest.raises(
        data.NotFound, match=r"ILSVRC2012_img_train\.tar is not the original"
    ) as caught:
        data.load("imagenet2012", data_dir=tmp_path / "new", manual_dir=folder)
    sentence(caught)
    monkeypatch.setattr(fetching, "archives", lambda builder, manual: manual)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(data.NotFound, match="imagenet2012 cannot be prepared from") as caught:
        data.load("imagenet2012", data_dir=tmp_path / "new", manual_dir=folder)
    sentence(caught)
    assert not (tmp_path / "new").exists()


def test_a_failure_in_the_middle_leaves_an_existing_folder_as_it_was(tmp_path, monkeypatch):
    from keras_elu.data import digits

    data.load("digits", data_dir=tmp_path)
    shutil.rmtree(tmp_path / "digits")
    (tmp_path / "mine").write_text("mine")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fail(self, images, labels, indices, error=error):
            yield 0, {"image": images[0], "label": 0}
            raise error

        monkeypatch.setattr(digits.Digits, "_generate_examples", fail)
        with pytest.raises((data.NotFound, KeyboardInterrupt)):
            data.load("digits", data_dir=tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("inside", ["", "folder"])
def test_a_file_in_the_way_of_data_dir_gets_one_sentence(inside, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(data.NotFound, match="data_dir") as caught:
        data.load("digits", data_dir=tmp_path / "file" / inside)
    assert str(tmp_path / "file") in sentence(caught)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_manual_dir_that_is_no_folder_gets_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for manual_dir in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(data.NotFound, match="is not a folder; name the one that") as caught:
            data.load("mnist", data_dir=tmp_path, manual_dir=manual_dir)
        assert str(manual_dir) in sentence(caught)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "There is no data set 'cifra10' (did you mean 'cifar10'?); use"),
        ("Digits", "did you mean 'digits'?"),
        ("", "There is no data set ''"),
        ("qqqqqqqq", "There is no data set 'qqqqqqqq'; use one of digits, mnist"),
        ("../etc", "There is no data set '../etc'"),
        (7, "There is no data set 7"),
        ("cifar10/nonsense", "TFDS refuses 'cifar10/nonsense'"),
        ("cifar10:9.9.9", "TFDS refuses 'cifar10:9.9.9'"),
        ("coco", "coco is not an image-classification set"),
        ("imdb_reviews", "imdb_reviews is not an image-classification set"),
    ],
)
def test_unknown_names_get_one_sentence(name, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        data.load(name, data_dir=tmp_path / "new")
    sentence(caught)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("count", [-1, 1.5, True, "7", 1437, 10**9])
def test_validation_examples_must_leave_some_to_train_on(count, tmp_path):
    with pytest.raises(ValueError, match=f"validation_examples is {count!r}") as caught:
        data.load("digits", data_dir=tmp_path, validation_examples=count)
    sentence(caught)


def test_without_held_out_images_validation_is_the_test_split(tmp_path):
    dataset = data.load("digits", data_dir=tmp_path, validation_examples=0)
    assert dataset.examples == {"train": 1437, "validation": 360, "test": 360}
    one, other = (next(iter(dataset.evaluation(s, 360)))[0] for s in ("validation", "test"))
    np.testing.assert_array_equal(one, other)


def test_synthetic_needs_no_folder():
    assert data.load("synthetic").examples["train"] == 4096
    assert data.is_prepared("synthetic")
    assert "synthetic" in data.names()


def test_a_slow_network_is_not_retried_for_minutes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: calls.append(1) or (_ for _ in ()).throw(TimeoutError("timed out")),
    )
    with pytest.raises(data.NotFound, match="cannot be reached"):
        data.load("cifar10", data_dir=tmp_path)
    assert len(calls) == 1


@pytest.mark.slow
@real_data
def test_the_real_mnist_is_prepared_from_its_archives_and_is_not_fashion_mnist(tmp_path):
    manual_dir = pathlib.Path(REAL)
    dataset = data.load("mnist", data_dir=tmp_path, manual_dir=manual_dir)
    assert dataset.examples == {"train": 50_000, "validation": 10_000, "test": 10_000}
    labels = np.concatenate([y for _, y in dataset.evaluation("test", 1000)])
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    with pytest.raises(data.NotFound, match="is not the original archive of fashion_mnist"):
        data.load("fashion_mnist", data_dir=tmp_path, manual_dir=manual_dir / "mnist")
    assert [p.name for p in tmp_path.iterdir()] == ["mnist"]
    with gzip.open(manual_dir / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 784)
    images = np.concatenate([x for x, _ in dataset.evaluation("test", 1000)]).reshape(-1, 784)
    images = np.rint(images * 255).astype(np.uint8)
    assert sorted(map(bytes, images)) == sorted(map(bytes, raw))


@real_data
@pytest.mark.parametrize(("name", "each"), [("cifar10", 1000), ("cifar100", 100)])
def test_the_real_cifar_is_balanced(name, each, tmp_path):
    dataset = data.load(name, data_dir=tmp_path, manual_dir=REAL)
    assert dataset.examples == {"train": 45_000, "validation": 5_000, "test": 10_000}
    labels = np.concatenate([y for _, y in dataset.evaluation("test", 1000)])
    assert np.bincount(labels).tolist() == [each] * dataset.classes


@pytest.mark.slow
@real_data
def test_cifar10_prepared_by_tfds_is_in_the_order_of_the_binary_files(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-bin"
    shutil.copytree(pathlib.Path(REAL) / "cifar10" / folder.name, folder)
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    archive = tmp_path / "archives" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    infos = tfds.builder("cifar10").url_infos
    monkeypatch.setitem(infos, url, tfds.core.download.checksums.compute_url_info(archive))
    ways = {"data_dir": tmp_path / "new", "manual_dir": archive.parent}, {"manual_dir": folder}
    for split in ("train", "validation", "test"):
        pairs = [data.load("cifar10", **way).evaluation(split, 5000) for way in ways]
        for (x, y), (x_binary, y_binary) in zip(*pairs, strict=True):
            np.testing.assert_array_equal(x, x_binary)
            np.testing.assert_array_equal(y, y_binary)


def published(content):
    digest = hashlib.sha256(content).hexdigest()
    return tfds.core.download.checksums.UrlInfo(len(content), digest, "images.npz")


@pytest.mark.parametrize(
    ("config", "content", "accepted"),
    [
        ("bangla", b"bangla's", True),
        ("telugu", b"telugu's", True),
        ("bangla", b"telugu's", False),
        ("telugu", b"bangla's", False),
        ("plain", b"bangla's", True),  # no address names it
        ("plain", b"telugu's", True),
        ("plain", b"another's", False),
    ],
)
def test_archives_belong_to_a_configuration(config, content, accepted, tmp_path):
    addresses = {
        f"https://example.org/{name}-numerals/images.npz": published(f"{name}'s".encode())
        for name in ("bangla", "telugu")
    }
    builder = types.SimpleNamespace(
        name="archived",
        url_infos=addresses,
        builder_config=types.SimpleNamespace(name=config),
        MANUAL_DOWNLOAD_INSTRUCTIONS=None,
        data_dir_root=tmp_path,
    )
    (tmp_path / "images.npz").write_bytes(content)
    if accepted:
        assert fetching.archives(builder, tmp_path) == tmp_path
    else:
        with pytest.raises(data.NotFound, match=f"not the original archive of archived/{config}"):
            fetching.archives(builder, tmp_path)


def write_set(folder, name, features, examples, file_format="tfrecord"):
    """A data set of TFDS with the same examples in each of its splits, as TFDS writes it."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            known = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=known)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(of) for split, of in examples.items()}

        def _generate_examples(self, of):
            yield from enumerate(of)

    Builder.name = name
    Builder(data_dir=folder, file_format=file_format).download_and_prepare()


def pictures(channels, dtype=np.uint8, size=None):
    dice = np.random.default_rng(channels or 0)
    sizes = [size or (20 + 3 * i, 24) for i in range(6)]
    top = 256 if dtype == np.uint8 else 65536
    shapes = [(*size, channels) for size in sizes]
    return [dice.integers(0, top, shape).astype(dtype) for shape in shapes]


LABELS = {"label": tfds.features.ClassLabel(num_classes=3)}
BOTH = ("train", "test")


def write_pictures(folder, name, image, held, labels=None, splits=BOTH, **options):
    examples = [{"image": x, "label": i % 2} for i, x in enumerate(held)]
    features = {"image": image, **(labels or LABELS)}
    write_set(folder, name, features, dict.fromkeys(splits, examples), **options)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [None, (16, 16)])
def test_pixels_are_those_of_tfds_itself(channels, size, tmp_path):
    image = tfds.features.Image(shape=(*(size or (None, None)), channels), encoding_format="png")
    write_pictures(tmp_path, "pictures", image, pictures(channels, size=size))
    dataset = data.load("pictures", data_dir=tmp_path)
    assert dataset.image_shape[-1] == channels
    builder = tfds.builder("pictures", data_dir=tmp_path)
    theirs = list(tfds.as_numpy(builder.as_dataset(split="test")))
    side = size[0] if size else 20
    pipeline = dataset.evaluation("test", 1, image_size=side, preprocess="none")
    for (ours, _), example in zip(pipeline, theirs, strict=True):
        top, left, height, width = (
            (0, 0, 16, 16) if size else crops.central(*example["image"].shape[:2])
        )
        crop = example["image"][top : top + height, left : left + width].astype(np.float32)
        wanted = cv2.resize(crop, (side, side), interpolation=cv2.INTER_LINEAR)
        wanted = wanted.reshape(side, side, channels)
        assert np.abs(ours[0].numpy().astype(float) - wanted).max() <= 1
    next(iter(dataset.training(4, image_size=16)))


@pytest.mark.parametrize(
    ("mode", "channels"), [("I;16", 1), ("P", 3), ("LA", 1), ("RGBA", 3), ("RGB", 1), ("L", 3)]
)
def test_any_png_is_decoded_as_by_tfds(mode, channels):
    pixels = pictures(3, size=(20, 24))[0]
    image = (
        PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + 99)
        if mode == "I;16"
        else PIL.Image.fromarray(pixels).convert(mode)
    )
    file = io.BytesIO()
    image.save(file, "PNG")
    feature = tfds.features.Image(shape=(None, None, channels))
    theirs = feature.decode_example(file.getvalue()).numpy()
    np.testing.assert_array_equal(decoding._any(file.getvalue(), channels), theirs)


REFUSED = {
    "16 bits": (
        lambda: tfds.features.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png"),
        pictures(1, np.uint16),
        {},
        "The images of pictures are uint16; only images of 8 bits",
    ),
    "16 bits in memory": (
        lambda: tfds.features.Image(shape=(16, 16, 1), dtype=np.uint16, encoding_format="png"),
        pictures(1, np.uint16, size=(16, 16)),
        {},
        "The images of pictures are uint16; only images of 8 bits",
    ),
    "ArrayRecord": (
        lambda: tfds.features.Image(shape=(None, None, 3)),
        pictures(3),
        {"file_format": "array_record"},
        "pictures is stored as ARRAY_RECORD, and only TFRECORD can be read: run tfds convert",
    ),
    "ArrayRecord in memory": (
        lambda: tfds.features.Image(shape=(16, 16, 3)),
        pictures(3, size=(16, 16)),
        {"file_format": "array_record"},
        "pictures is stored as ARRAY_RECORD, and only TFRECORD can be read: run tfds convert",
    ),
    "Parquet": (
        lambda: tfds.features.Image(shape=(None, None, 3)),
        pictures(3),
        {"file_format": "parquet"},
        "pictures is stored as PARQUET, and only TFRECORD can be read: run tfds convert",
    ),
    "a single class": (
        lambda: tfds.features.Image(shape=(None, None, 3)),
        pictures(3)[:1],
        {"labels": {"label": tfds.features.ClassLabel(num_classes=1)}},
        "pictures has a single class, and a classifier needs two",
    ),
    "nothing to test on": (
        lambda: tfds.features.Image(shape=(None, None, 3)),
        pictures(3),
        {"splits": ("train",)},
        "no split to test on: hold out some of the training images, with --validation_examples",
    ),
    "nothing to train on": (
        lambda: tfds.features.Image(shape=(None, None, 3)),
        pictures(3),
        {"splits": ("test",)},
        "pictures has no split to train on",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_set_that_cannot_be_read_is_refused_by_name_before_training(case, tmp_path):
    image, held, options, message = REFUSED[case]
    write_pictures(tmp_path, "pictures", image(), held, **options)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        data.load("pictures", data_dir=tmp_path)
    sentence(caught)


@pytest.mark.parametrize("size", [None, (16, 16)])
def test_held_out_training_images_stand_for_missing_splits(size, tmp_path):
    image = tfds.features.Image(shape=(*(size or (None, None)), 3))
    write_pictures(tmp_path, "pictures", image, pictures(3, size=size), splits=("train",))
    dataset = data.load("pictures", data_dir=tmp_path, validation_examples=2)
    assert dataset.examples == {"train": 4, "validation": 2, "test": 2}
    one, other = (
        next(iter(dataset.evaluation(s, 2, image_size=16)))[0] for s in ("validation", "test")
    )
    np.testing.assert_array_equal(one, other)


NO_LABEL = [-1] * 20


def write_labels(folder, size=None, **labels_of):
    """Writes a set with pictures of these labels by split."""
    features = {"image": tfds.features.Image(shape=(*(size or (None, None)), 3)), **LABELS}
    held = pictures(3, size=size)
    examples = {
        split: [{"image": held[i % 6], "label": label} for i, label in enumerate(labels)]
        for split, labels in labels_of.items()
    }
    write_set(folder, "pictures", features, examples)


def labels_of(pipeline):
    return np.concatenate([labels for _, labels in pipeline.as_numpy_iterator()]).tolist()


@pytest.mark.parametrize("size", [None, (16, 16)], ids=["streamed", "in memory"])
def test_a_split_without_labels_is_known_at_once(size, tmp_path, capsys):
    write_labels(tmp_path / "a", size, train=[0, 1] * 4, validation=[1, 0, 1], test=NO_LABEL)
    dataset = data.load("pictures", data_dir=tmp_path / "a")
    assert capsys.readouterr().err == "pictures: test has no labels and is not used.\n"
    assert dataset.examples == {"train": 8, "validation": 3, "test": 3}
    assert sorted(labels_of(dataset.evaluation("test", 2))) == [0, 1, 1]

    write_labels(tmp_path / "b", size, train=[0, 1] * 4, test=NO_LABEL)
    with pytest.raises(ValueError, match="hold out some of the training images"):
        data.load("pictures", data_dir=tmp_path / "b")
    held = data.load("pictures", data_dir=tmp_path / "b", validation_examples=2)
    assert held.examples == {"train": 6, "validation": 2, "test": 2}

    write_labels(tmp_path / "c", size, train=NO_LABEL, test=[0, 1])
    with pytest.raises(ValueError, match="The training images of pictures have no labels"):
        data.load("pictures", data_dir=tmp_path / "c")


def test_single_images_without_a_label_are_refused_in_memory_and_named_when_streamed(
    tmp_path, capsys
):
    labels = [0, 1] * 20 + [-1, 1]
    write_labels(tmp_path / "a", (16, 16), train=[0, 1], test=labels)
    with pytest.raises(ValueError, match="1 of 42 images of pictures, in test, have no label"):
        data.load("pictures", data_dir=tmp_path / "a")
    write_labels(tmp_path / "b", None, train=labels, test=labels)
    dataset = data.load("pictures", data_dir=tmp_path / "b")
    assert sorted(labels_of(dataset.evaluation("test", 50, image_size=8))) == [0] * 20 + [1] * 21
    assert -1 not in labels_of(dataset.training(42, image_size=8).take(1))
    assert capsys.readouterr().err.count("has the label -1, of 3 classes, and is left out") == 2


def test_class_names_are_those_of_tfds_and_labels_follow_them(tmp_path):
    own = {"label": tfds.features.ClassLabel(names=["dog", "cat"])}
    features = {"image": tfds.features.Image(shape=(None, None, 3)), **own}
    examples = [{"image": x, "label": i % 2} for i, x in enumerate(pictures(3))]
    write_set(tmp_path, "pictures", features, dict.fromkeys(BOTH, examples))
    dataset = data.load("pictures", data_dir=tmp_path)
    assert dataset.class_names == ("dog", "cat")
    before = labels_of(dataset.evaluation("test", 6))
    dataset.relabel(["bird", "cat", "dog"])
    assert labels_of(dataset.evaluation("test", 6)) == [{0: 2, 1: 1}[label] for label in before]
    assert set(labels_of(dataset.training(6).take(1))) == {1, 2}
    assert next(iter(dataset.evaluation("test", 6, one_hot=True)))[1].shape == (6, 3)


@pytest.mark.parametrize("size", [None, (16, 24)], ids=["sizes vary", "one size"])
def test_a_streamed_set_of_one_size_keeps_it(size, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "MEMORY", 0)
    write_labels(tmp_path, size, train=[0, 1], test=[0, 1])
    dataset = data.load("pictures", data_dir=tmp_path)
    described = dataset.describe()
    assert described["image_size"] == (size or (224, 224))
    assert described["crop"] == 0.875
    assert next(iter(dataset.evaluation("test", 2)))[0].shape[1:3] == described["image_size"]


@pytest.mark.parametrize("below", ["digits", "digits/1.0.0"])
def test_a_data_dir_within_a_set_is_named_as_that(below, tmp_path):
    data.load("digits", data_dir=tmp_path)
    for name in ("digits", "mnist"):
        with pytest.raises(
            data.NotFound, match="lies within the prepared data set digits"
        ) as caught:
            data.load(name, data_dir=tmp_path / below)
        assert sentence(caught).endswith(f"name the folder that holds data sets, {tmp_path}.")
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]


def test_an_unfinished_set_is_named_as_that(tmp_path):
    (tmp_path / "my_set" / "unfinished-1.0.0").mkdir(parents=True)
    (tmp_path / "other" / "1.0.0.incompleteABC").mkdir(parents=True)
    for name, advice in {
        "my_set": "keras_elu.prepare again",
        "other": "remove that folder",
    }.items():
        with pytest.raises(data.NotFound, match=f"{name} is unfinished in .*{advice}") as caught:
            data.load(name, data_dir=tmp_path)
        sentence(caught)


def test_home_is_expanded(tmp_path, monkeypatch, made_up_cifar):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("digits", data_dir="~/sets").examples["test"] == 360
    assert data.is_prepared("digits", "~/sets")
    assert (tmp_path / "sets" / "digits").is_dir()
    folder = made_up_cifar["cifar10"].relative_to(tmp_path)
    loaded = data.load(
        "cifar10", data_dir="~/none", manual_dir=f"~/{folder}", validation_examples=1
    )
    assert loaded.examples["train"] == 9


def test_a_network_that_never_answers_is_given_up(tmp_path, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait())
    monkeypatch.setattr(fetching, "PATIENCE", 0.1)
    try:
        with pytest.raises(data.NotFound, match=r"cannot be reached \(no answer in 0.1 s\)"):
            data.load("cifar10", data_dir=tmp_path)
    finally:
        never.set()


def test_a_set_without_known_addresses_is_refused_without_a_network_too(tmp_path):
    builder = types.SimpleNamespace(
        name="unknown", url_infos=None, MANUAL_DOWNLOAD_INSTRUCTIONS=None
    )
    with pytest.raises(data.NotFound, match=r"storage\.googleapis\.com cannot be reached"):
        fetching.assert_reachable(builder, tmp_path)
