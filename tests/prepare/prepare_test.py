import contextlib
import io
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_elu import data
from keras_elu.data import jpeg
from keras_elu.prepare import __main__ as prepare
from keras_elu.prepare import archives, images, plan, processes, shards, sources
from tests.processes import alive, children, wait_until

REAL = os.environ.get("KERAS_ELU_DATA")
# The published ground truth of the first validation images: 65, 970, 230, 809, 516.
FIRST_VALIDATION = ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729"]
CLASSES = ["n01440764", "n02105855", "n07714571"]
ADDED = {"cmyk.JPEG": "CMYK JPEG", "ycck.JPEG": "CMYK JPEG", "png.JPEG": "PNG", "grey.JPEG": ""}


@pytest.fixture(scope="module")
def photographs():
    """The encoded images of ImageNet's sample, or parts of scikit-learn's two photographs."""
    if REAL:
        paths = sorted((pathlib.Path(REAL) / "imagenet_sample").iterdir())
        return [path.read_bytes() for path in paths[::9]]
    whole = sklearn.datasets.load_sample_images().images
    generator = np.random.default_rng(0)
    found = []
    for number in range(42):
        image = whole[number % 2]
        height, width = generator.integers((150, 150), (428, 641))
        top, left = generator.integers((0, 0), (428 - height, 641 - width))
        found.append(as_jpeg(image[top : top + height, left : left + width]))
    return found


def as_jpeg(pixels, mode=None, **options):
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, "JPEG", **{"quality": 90} | options)
    return buffer.getvalue()


def png(pixels, mode=None, **options):
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixels_of(encoded, mode="RGB"):
    return np.asarray(PIL.Image.open(io.BytesIO(encoded)).convert(mode))


def cmyk(pixels):
    """Adobe's CMYK JPEG, which stores its channels inverted, as Pillow writes it."""
    black = np.broadcast_to(np.linspace(0, 100, pixels.shape[1])[:, None], (*pixels.shape[:2], 1))
    return np.concatenate([255 - pixels, black.astype(np.uint8)], axis=-1)


def cmyk_jpeg(channels):
    buffer = io.BytesIO()
    PIL.Image.frombytes("CMYK", channels.shape[1::-1], channels.tobytes()).save(
        buffer, "JPEG", quality=95, subsampling=0
    )
    return buffer.getvalue()


def ycck_jpeg(channels):
    """The same picture, with its first three channels as YCbCr and marked as such."""
    ycc = np.asarray(PIL.Image.fromarray(channels[..., :3]).convert("YCbCr"))
    stored = np.concatenate([ycc, 255 - channels[..., 3:]], axis=-1)
    encoded = bytearray(cmyk_jpeg(255 - stored))
    encoded[encoded.index(b"Adobe") + 11] = 2
    return bytes(encoded)


@pytest.fixture(scope="module")
def content(photographs):
    """What a small ImageNet holds: encoded images by split, and class or number, and name."""
    middle = pixels_of(photographs[5])
    added = {
        "cmyk.JPEG": cmyk_jpeg(cmyk(middle)),
        "ycck.JPEG": ycck_jpeg(cmyk(middle)),
        "png.JPEG": png(middle),
        "grey.JPEG": as_jpeg(middle, "L"),
    }
    train = {(CLASSES[0], f"{CLASSES[0]}_{name}"): encoded for name, encoded in added.items()}
    train |= {
        (CLASSES[i % 3], f"{CLASSES[i % 3]}_{i}.JPEG"): encoded
        for i, encoded in enumerate(photographs[5:])
    }
    validation = {
        (FIRST_VALIDATION[i], f"ILSVRC2012_val_{i + 1:08d}.JPEG"): photographs[i] for i in range(5)
    }
    return {"train": train, "validation": validation}


@pytest.fixture(scope="module")
def folders(content, tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    for (label, name), encoded in content["train"].items():
        (root / "train" / label).mkdir(parents=True, exist_ok=True)
        (root / "train" / label / name).write_bytes(encoded)
    (root / "val").mkdir()
    for (_, name), encoded in content["validation"].items():
        (root / "val" / name).write_bytes(encoded)
    return root


def add(tar, name, encoded):
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(encoded), 1.5  # a fraction makes a header of its own
    tar.addfile(info, io.BytesIO(encoded))


@pytest.fixture(scope="module")
def tars(content, tmp_path_factory):
    root = tmp_path_factory.mktemp("tars")
    with tarfile.open(root / archives.TARS["validation"], "w") as tar:
        for (_, name), encoded in reversed(content["validation"].items()):
            add(tar, name, encoded)
    with tarfile.open(root / archives.TARS["train"], "w") as tar:
        for label in reversed(CLASSES):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for (of, name), encoded in content["train"].items():
                    if of == label:
                        add(inner, name, encoded)
            add(tar, f"{label}.tar", buffer.getvalue())
    return root


def here(count, jobs, output):
    """`workers.run` without processes, where what they write is of interest."""
    for job in jobs:
        shards.write(job, output)
        yield len(job.images)


@pytest.fixture(scope="module")
def without_processes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "run", here)
        yield


@pytest.fixture(scope="module")
def prepared(without_processes, folders, tmp_path_factory):
    """A folder with imagenet2012, imagenet2012_256 and imagenet2012_256_raw."""
    data_dir = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD", 700_000)
        for options in ([], ["--resize", "256"], ["--resize", "256", "--raw"]):
            assert prepare.main([str(folders), str(data_dir), *options]) == 0
    return data_dir


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if "tfrecord" in path.name}


def records(name, data_dir, split):
    """File names with encoded images or pixels, and labels, as TFDS reads them."""
    builder = tfds.builder(name, data_dir=data_dir)
    decoders = None
    if isinstance(builder.info.features["image"], tfds.features.Image):
        decoders = {"image": tfds.decode.SkipDecoding()}
    found = builder.as_dataset(split=split, decoders=decoders)
    number = builder.info.features["label"].int2str
    return {
        (number(int(r["label"])), r["file_name"].decode()): r["image"] for r in tfds.as_numpy(found)
    }


def report(data_dir, name="imagenet2012", version="5.1.0"):
    return json.loads((data_dir / name / version / "report.json").read_text())


def error_of(capfd):
    lines = capfd.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("error:")]
    assert "Traceback" not in " ".join(lines)
    assert len(line) < 500
    return line


@pytest.mark.slow
def test_tars_by_two_processes_and_folders_by_none_give_equal_bytes(tars, prepared, tmp_path):
    code = (
        "from keras_elu.prepare import __main__ as prepare, plan; plan.SHARD = 700_000; "
        "prepare.command()"
    )
    command = [sys.executable, "-c", code, tars, tmp_path, "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stderr
    written = files(tmp_path / "imagenet2012" / "5.1.0")
    assert len(written) > 3
    assert written == files(prepared / "imagenet2012" / "5.1.0")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_dir()) == ["5.1.0", "imagenet2012"]


def test_validation_images_in_folders_of_their_classes_are_the_same(
    content, folders, tars, tmp_path
):
    for (label, name), encoded in content["validation"].items():
        (tmp_path / "validation" / label).mkdir(parents=True)
        (tmp_path / "validation" / label / name).write_bytes(encoded)
    (tmp_path / "train").symlink_to(folders / "train")
    digests = {sources.find(at, "imagenet2012").digest for at in (folders, tars, tmp_path)}
    assert len(digests) == 1


def test_tfds_reads_the_bytes_of_the_source(content, prepared):
    for split, expected in content.items():
        found = records("imagenet2012", prepared, split)
        assert found.keys() == expected.keys()
        converted = {f"{CLASSES[0]}_{name}" for name, was in ADDED.items() if was}
        for (label, name), encoded in found.items():
            assert (encoded == expected[label, name]) == (name not in converted), name
    info = tfds.builder("imagenet2012", data_dir=prepared).info
    assert info.splits["train"].num_examples == len(content["train"])
    assert info.splits["train"].num_bytes == sum(
        len(b) for n, b in files(prepared / "imagenet2012" / "5.1.0").items() if "train" in n
    )
    assert info.features["label"].num_classes == 1000
    names = {f"train/{CLASSES[0]}/{CLASSES[0]}_{n}": was for n, was in ADDED.items() if was}
    assert {c["image"]: c["reason"] for c in report(prepared)["converted"]} == names
    assert report(prepared)["missing"]["validation"] == 49_995


def test_the_order_is_not_that_of_the_classes(content, prepared):
    labels = [label for label, _ in records("imagenet2012", prepared, "train")]
    changes = sum(a != b for a, b in itertools.pairwise(labels))
    assert changes > len(labels) / 3


def test_tfds_prepares_the_same_from_the_tars(tars, prepared, tmp_path):
    builder = tfds.builder("imagenet2012", data_dir=tmp_path)
    config = tfds.download.DownloadConfig(manual_dir=tars, try_download_gcs=False)
    with pytest.MonkeyPatch.context() as patch:  # its list of special files is not ours
        patch.setattr(type(builder), "_fix_image", lambda self, name, image: image)
        builder.download_and_prepare(download_dir=tmp_path, download_config=config)
    for split in ("train", "validation"):
        theirs, ours = (records("imagenet2012", at, split) for at in (tmp_path, prepared))
        assert theirs.keys() == ours.keys()
        same = [theirs[key] == ours[key] for key in theirs]
        assert same.count(False) == (3 if split == "train" else 0)


@pytest.mark.parametrize("name", ["imagenet2012", "imagenet2012_256", "imagenet2012_256_raw"])
def test_keras_elu_loads_what_is_prepared(name, content, prepared):
    assert data.is_prepared(name, prepared)
    dataset = data.load(name, data_dir=prepared, manual_dir="/nowhere")
    assert dataset.classes == 1000
    assert dataset.examples["train"] == len(content["train"])
    ((pictures, labels),) = dataset.evaluation("test", 8, image_size=224)
    number = tfds.builder("imagenet2012", data_dir=prepared).info.features["label"].str2int
    assert sorted(labels.numpy()) == sorted(map(number, FIRST_VALIDATION))
    by_label = dict(zip(labels.numpy().tolist(), pictures.numpy(), strict=True))
    for (label, _), encoded in content["validation"].items():
        image = PIL.Image.open(io.BytesIO(encoded)).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize([max(256, round(side * scale)) for side in image.size])
        left, top = ((side - 224) // 2 for side in image.size)
        expected = np.asarray(image.crop((left, top, left + 224, top + 224))) / 255
        assert np.abs(by_label[number(label)] - expected).mean() < 0.06, label
    images_, _ = next(iter(dataset.training(4, seed=1, image_size=64)))
    assert images_.shape == (4, 64, 64, 3)


def test_other_kinds_come_out_as_pillow_sees_them(content, prepared, photographs):
    found = records("imagenet2012", prepared, "train")
    for name, was in ADDED.items():
        key = CLASSES[0], f"{CLASSES[0]}_{name}"
        ours = PIL.Image.open(io.BytesIO(found[key]))
        assert ours.mode == ("RGB" if was else "L")
        ours, expected = np.asarray(ours.convert("RGB")), pixels_of(content["train"][key])
        # one JPEG of quality 95 lies between; colours the wrong way around are 50 and more away
        assert np.abs(ours.astype(int) - expected).mean() < 2.5, name
    middle = pixels_of(photographs[5])
    ramp = np.linspace(255, 155, middle.shape[1])[:, None] / 255
    for name in ("cmyk", "ycck"):  # the arithmetic, besides Pillow
        ours = pixels_of(found[CLASSES[0], f"{CLASSES[0]}_{name}.JPEG"])
        assert np.abs(ours - middle * ramp).mean() < 3, name


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "I;16"])
def test_a_png_of_any_kind_becomes_its_pixels(mode, photographs):
    pixels = pixels_of(photographs[7])
    if mode == "I;16":
        deep = pixels[..., 0].astype(np.uint16) * 256 + 77
        encoded, expected = png(deep), np.repeat(pixels[..., :1], 3, axis=-1)
    else:
        encoded = png(pixels, mode)
        expected = pixels_of(encoded)
    prepared = images.prepare(encoded)
    assert prepared.converted == "PNG"
    assert PIL.Image.open(io.BytesIO(prepared.image)).format == "JPEG"
    difference = np.abs(pixels_of(prepared.image).astype(int) - expected)
    assert difference.mean() < (6 if mode in ("1", "P") else 2.5)  # dithering is hard on a JPEG


def test_a_wide_png_that_no_jpeg_can_hold_is_left_out():
    with pytest.raises(jpeg.Damaged, match="70,000"):
        images.prepare(png(np.zeros((2, 70_000, 3), np.uint8)))


def reduced(encoded, shorter):
    """Pillow's own: decoded in full, then Lanczos."""
    image = PIL.Image.open(io.BytesIO(encoded)).convert("RGB")
    factor = shorter / min(image.size)
    if factor >= 1:
        return np.asarray(image)
    size = [max(shorter, round(side * factor)) for side in image.size]
    return np.asarray(image.resize(size, PIL.Image.Resampling.LANCZOS))


def test_resized_pixels_are_those_of_pillow(content, prepared):
    for split, expected in content.items():
        raw = records("imagenet2012_256_raw", prepared, split)
        resized = records("imagenet2012_256", prepared, split)
        assert raw.keys() == resized.keys() == expected.keys()
        for key, encoded in expected.items():
            wanted = reduced(encoded, 256)
            assert raw[key].shape == wanted.shape
            # two decoders round colours of CMYK apart; the rest is equal
            assert np.abs(raw[key].astype(int) - wanted).max() <= ("K JPEG" in kind(key)), key
            before = pixels_of(encoded)
            if min(before.shape[:2]) > 256:
                assert resized[key] == as_jpeg(raw[key], subsampling="4:2:0")
            elif not kind(key):
                assert resized[key] == encoded


def kind(key):
    return ADDED.get(key[1].partition("_")[2], "")


def test_a_large_image_is_reduced_first_and_stays_close():
    noise = np.random.default_rng(0).integers(0, 256, (1600, 2100, 3), np.uint8)  # the worst case
    image = PIL.Image.fromarray(noise)
    wanted = np.asarray(image.resize((84, 64), PIL.Image.Resampling.LANCZOS)).astype(int)
    difference = images.resize(noise, 64) - wanted
    assert difference.shape == (64, 84, 3)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 50
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("raw", [False, True])
def test_a_record_is_the_one_that_tfds_writes(raw, tmp_path, photographs):
    features = shards.Output(tmp_path, ("a", "b"), 256, raw).features()
    image = pixels_of(photographs[0])[:5] if raw else photographs[0]
    theirs = features.serialize_example({"image": image, "label": 1, "file_name": "é.jpg"})
    ours = shards.record(image, 1, "é.jpg")
    assert tf.train.Example.FromString(ours) == tf.train.Example.FromString(theirs)


def test_raw_pixels_lie_in_the_record_as_they_are(prepared):
    record = next(
        iter(
            tf.data.TFRecordDataset(sorted(map(str, prepared.glob("*_raw/*/*train*-0000[0-9]-*"))))
        )
    ).numpy()
    example = tf.train.Example.FromString(record).features.feature
    height, width, channels = example["image/shape"].int64_list.value
    (value,) = example["image/value"].bytes_list.value
    assert len(value) == height * width * channels
    assert value in record


def test_what_preparing_costs_is_what_the_help_says(prepared):
    if not REAL:
        pytest.skip("KERAS_ELU_DATA is not set")
    for name, each in {
        "imagenet2012_256": plan.RESIZED,
        "imagenet2012_256_raw": plan.RAW,
    }.items():
        info = tfds.builder(name, data_dir=prepared).info
        measured = info.dataset_size / sum(s.num_examples for s in info.splits.values())
        assert 0.8 < measured / each < 1.2  # of 380 images these are 42, and a few more


def damaged(photographs):
    """A thousand damaged files by name, with what is expected of each reason."""
    generator = random.Random(0)
    found = {}
    for i in range(300):
        whole = generator.choice(photographs)
        found[f"cut{i}.JPEG"] = whole[: generator.randrange(2, len(whole) - 2)], ""
        found[f"closed{i}.JPEG"] = found[f"cut{i}.JPEG"][0] + b"\xff\xd9", ""
    for i in range(100):
        found[f"empty{i}.JPEG"] = b"", "0 bytes"
        found[f"zeros{i}.JPEG"] = bytes(generator.randrange(1, 9999)), "neither"
        text = "".join(generator.choices("abc \n", k=generator.randrange(1, 999)))
        found[f"text{i}.jpg"] = text.encode(), "neither"
        huge = bytearray(generator.choice(photographs))
        frame = huge.rindex(b"\xff\xc0\x00\x11\x08") if b"\xff\xc0" in huge else 0
        huge[frame + 5 : frame + 9] = struct.pack(">HH", 16_385 + i, 16_385)
        found[f"huge{i}.jpeg"] = bytes(huge), "pixels"
    return found


def flipped(photographs, count):
    """Files with one wrong bit, which Pillow refuses."""
    generator = random.Random(1)
    while count:
        file = bytearray(generator.choice(photographs))
        file[generator.randrange(file.rindex(b"\xff\xda") + 14)] ^= 1 << generator.randrange(8)
        try:
            pixels_of(bytes(file))
        except (OSError, SyntaxError, ValueError):
            yield bytes(file)
            count -= 1


def test_damaged_files_are_reported_and_no_good_one_is_lost(
    without_processes, photographs, tmp_path, capfd
):
    bad = damaged(photographs)
    bad |= {f"flip{i}.png.jpg": (file, "") for i, file in enumerate(flipped(photographs, 20))}
    picture = png(pixels_of(photographs[0])[:50, :50])
    bad |= {f"cut{i}.png": (picture[:cut], "") for i, cut in enumerate((9, 30, 900, -4))}
    torn = bytearray(picture)
    torn[len(torn) // 2] ^= 1
    bad["flip.PNG"] = bytes(torn), ""
    (tmp_path / "train" / "bad").mkdir(parents=True)
    (tmp_path / "train" / "good").mkdir()
    for name, (file, _) in bad.items():
        (tmp_path / "train" / "bad" / name).write_bytes(file)
    for i, photograph in enumerate(photographs):
        after = b"\xff\xd8\xff\xe0 left over" if i % 2 else b""
        (tmp_path / "train" / "good" / f"{i}.jpg").write_bytes(photograph + after)
    (tmp_path / "val" / "good").mkdir(parents=True)
    (tmp_path / "val" / "good" / "a.jpg").write_bytes(photographs[0])
    (tmp_path / "train" / "good" / "notes.txt").write_text("no image, nor meant as one")
    (tmp_path / "train" / "bad" / "nowhere.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "train" / "bad" / "pipe.jpg")
    assert prepare.main([str(tmp_path), str(tmp_path / "d"), "--name", "my_set"]) == 0
    out = capfd.readouterr().out
    left_out = {
        one["image"].removeprefix("train/bad/"): one["reason"]
        for one in report(tmp_path / "d", "my_set", "1.0.0")["left_out"]
    }
    assert left_out.keys() == {*bad, "nowhere.jpg", "pipe.jpg"}
    for name, (_, reason) in bad.items():
        assert reason in left_out[name], name
    found = records("my_set", tmp_path / "d", "train")
    assert {label for label, _ in found} == {"good"}
    assert len(found) == len(photographs)
    assert f"{len(left_out):,} left out" in out
    assert out.count("train/bad/") == 10
    assert f"and {len(left_out) - 10:,} more" in out
    ignored = report(tmp_path / "d", "my_set", "1.0.0")["ignored"]
    assert ignored == [{"file": "train/good/notes.txt", "reason": "no picture"}]
    assert "train/good/notes.txt: no picture" in out


def test_bytes_to_spare_are_a_warning_and_missing_ones_a_fault(photographs):
    whole = photographs[1]
    spare = images.prepare(whole[:-2] + bytes(range(50)) + b"\xff\xd9")
    assert re.match("Corrupt JPEG data: .* extraneous bytes before marker 0xd9", spare.warning)
    with pytest.raises(jpeg.Damaged, match="premature end of data segment"):
        images.prepare(whole[:-500] + b"\xff\xd9")
    tf.io.decode_jpeg(whole[:-500] + b"\xff\xd9")  # which TensorFlow lets pass
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_jpeg(whole[:-500])
    assert images.prepare(whole).warning == ""


def test_the_end_of_a_thumbnail_is_not_that_of_the_image(photographs):
    thumbnail = as_jpeg(np.zeros((16, 16, 3), np.uint8))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = photographs[2][:2] + segment + photographs[2][2:]
    assert images.prepare(whole).image == whole
    with pytest.raises(jpeg.Damaged, match="truncated"):
        images.prepare(whole[:-2])


def test_a_set_of_ones_own_has_its_classes_sorted_and_its_test_split(
    without_processes, photographs, tmp_path
):
    names = {"train": ["zebra", "ape", "Yak"], "validation": ["ape"], "test": ["zebra", "ape"]}
    for split, classes in names.items():
        for i, label in enumerate(classes):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / f"{i} a.Jpg").write_bytes(photographs[i])
            (tmp_path / split / label / f"{i}b.jpeg").write_bytes(photographs[i + 1])
    (tmp_path / "train" / ".hidden").mkdir()
    d = tmp_path / "data"
    assert prepare.main([str(tmp_path), str(d), "--name", "my_set"]) == 0
    loaded, info = tfds.load("my_set", data_dir=d, with_info=True)
    assert info.features["label"].names == ["Yak", "ape", "zebra"]
    assert {split: len(list(found)) for split, found in loaded.items()} == {
        "train": 6,
        "validation": 2,
        "test": 4,
    }
    dataset = data.load("my_set", data_dir=d)
    assert dataset.examples == {"train": 6, "validation": 2, "test": 4}
    with pytest.raises(ValueError, match="There is no data set 'my_sett'"):
        data.load("my_sett", data_dir=d)
    assert not (tmp_path / "data" / "my_sett").exists()


def test_a_split_without_any_intact_image_is_not_there(
    without_processes, photographs, tmp_path, capfd
):
    contents = {"train": photographs[0], "val": b"text", "test": photographs[1]}
    for split, encoded in contents.items():
        for label in ("ape", "bee"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "a.jpg").write_bytes(encoded)
    arguments = [str(tmp_path), str(tmp_path / "data"), "--name", "my_set"]
    assert prepare.main(arguments) == 0
    splits = tfds.builder("my_set", data_dir=tmp_path / "data").info.splits
    assert sorted(splits) == ["test", "train"]
    for broken, message in (
        ("test", "No image to evaluate on is intact"),
        ("train", "No image is intact"),
    ):
        for label in ("ape", "bee"):
            (tmp_path / broken / label / "a.jpg").write_bytes(b"text")
        shutil.rmtree(tmp_path / "data")
        assert prepare.main(arguments) == 1
        captured = capfd.readouterr()
        assert message in captured.err
        assert f"{broken}/bee/a.jpg: it is neither" in captured.out
        assert not (tmp_path / "data" / "my_set" / "1.0.0").exists()


def test_a_shard_may_lose_all_its_images(without_processes, photographs, tmp_path, monkeypatch):
    (tmp_path / "train" / "ape").mkdir(parents=True)
    for i in range(6):
        (tmp_path / "train" / "ape" / f"{i}.jpg").write_bytes(photographs[0] if i == 3 else b"bad")
    for split in ("train", "val"):
        (tmp_path / split / "bee").mkdir(parents=True)
        (tmp_path / split / "bee" / "b.jpg").write_bytes(photographs[1])
    monkeypatch.setattr(plan, "SHARD", 1)
    assert prepare.main([str(tmp_path), str(tmp_path / "d"), "--name", "my_set"]) == 0
    assert len(files(tmp_path / "d" / "my_set" / "1.0.0")) == 7 + 1
    found = list(records("my_set", tmp_path / "d", "train"))
    assert sorted(found) == [("ape", "3.jpg"), ("bee", "b.jpg")]


def test_shards_are_as_many_as_the_sizes_ask_for(tmp_path):
    output = shards.Output(tmp_path, ("a",), None, False)

    def number(name, count, size, output=output):
        images_ = [sources.Image("file", 0, size, 0, str(i)) for i in range(count)]
        found = plan._spread(name, images_, output)
        assert [image for shard in found for image in shard.images] == images_
        assert max(len(s.images) for s in found) - min(len(s.images) for s in found) <= 1
        assert found[-1].name == f"{name}.tfrecord-{len(found) - 1:05d}-of-{len(found):05d}"
        return len(found)

    assert number("a_1-train", 3, 1) == 1
    assert number("a_1-train", 1280, 1_000_000) == 11
    assert number("a_1-train", 3, 10**9) == 3
    assert number("a_1-train", 5000, 10**9) == 1024
    assert number("a_1-validation", 5000, 10**9) == 128
    assert number("a_1-train", 50_000, 10**6, output._replace(shorter=256)) == 12


def plain_tar(files):
    """A tar without a mark of its end: a header of one block, and one of content, for each."""
    blocks = []
    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), content.ljust(-len(content) % 512, b"\0")]
    return b"".join(blocks)


def test_a_tar_within_a_tar_needs_no_mark_of_its_end(tmp_path):
    inner = {f"{c}.tar": plain_tar({f"./{c}_1.JPEG": c.encode().ljust(512)}) for c in CLASSES}
    (tmp_path / archives.TARS["train"]).write_bytes(plain_tar(inner))
    source = sources.find(tmp_path, "imagenet2012")
    assert source.splits["train"].classes == dict.fromkeys(CLASSES, 1)
    for image in source.splits["train"].images:
        assert image.read().decode().strip() == source.labels[image.label]


def test_a_tar_that_is_not_whole_is_refused(tars, tmp_path, capfd):
    whole = (tars / archives.TARS["train"]).read_bytes()
    inner = plain_tar({f"{CLASSES[0]}_{i}.JPEG": bytes(512) for i in range(3)})
    broken = {
        "cut": whole[: len(whole) * 2 // 3],
        "cut within": plain_tar({f"{CLASSES[0]}.tar": inner[:-512], f"{CLASSES[1]}.tar": inner}),
        "no header": plain_tar({f"{CLASSES[0]}.tar": inner[:1024] + b"?" * 512 + inner[1536:]}),
        "empty": b"",
        "text": b"not a tar" * 1000,
    }
    for name, content in broken.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / archives.TARS["train"]).write_bytes(content)
        assert prepare.main([str(folder), str(tmp_path / "data")]) == 2, name
        assert ("is damaged" in error_of(capfd)) == (name != "empty"), name
    assert not (tmp_path / "data").exists()


WRONG = {
    "no source": (["{tmp}/nowhere", "{tmp}/data"], "nowhere is not a folder"),
    "a file as source": (["{tmp}/file", "{tmp}/data"], "is not a folder"),
    "an empty source": (["{tmp}/empty", "{tmp}/data"], "holds no images"),
    "one argument": (["{tmp}/empty"], "DATA_DIR"),
    "an unknown flag": (["{good}", "{tmp}/data", "--quality", "3"], "--quality"),
    "half a flag": (["{good}", "{tmp}/data", "--res", "256"], "--res"),
    "a size of 0": (["{good}", "{tmp}/data", "--resize", "0"], "--resize must be"),
    "a huge size": (["{good}", "{tmp}/data", "--resize", "1025"], "--resize must be"),
    "a size in words": (["{good}", "{tmp}/data", "--resize", "small"], "--resize"),
    "raw alone": (["{good}", "{tmp}/data", "--raw"], "--raw needs --resize"),
    "no processes": (["{good}", "{tmp}/data", "--processes", "0"], "--processes must be"),
    "a name with a slash": (["{good}", "{tmp}/data", "--name", "a/b"], "--name must be"),
    "a name in capitals": (["{good}", "{tmp}/data", "--name", "My"], "--name must be"),
    "an empty name": (["{good}", "{tmp}/data", "--name", ""], "--name must be"),
    "TFDS's name": (["{good}", "{tmp}/data", "--name", "mnist"], "another data set's"),
    "our name": (["{good}", "{tmp}/data", "--name", "digits"], "another data set's"),
    "a file as data_dir": (["{good}", "{tmp}/file"], "cannot be written"),
    "a folder in a file": (["{good}", "{tmp}/file/data"], "cannot be written"),
    "an endless data_dir": (["{good}", "{tmp}/" + "x" * 300], "cannot be used"),
    "unknown synsets": (["{apes}", "{tmp}/data"], "ape in .* not a known class"),
    "a class of validation alone": (["{apes}", "{tmp}/data", "--name", "my_set"], "bee in"),
    "validation without numbers": (["{unnumbered}", "{tmp}/data"], "a.JPEG, whose label"),
    "a number too high": (["{high}", "{tmp}/data"], "50001.JPEG, whose label"),
    "flat folders": (
        ["{flat}", "{tmp}/data", "--name", "my_set"],
        "holds neither a folder for each class",
    ),
    "two of validation": (["{two}", "{tmp}/data"], "leave one of them"),
    "no training images": (["{untrained}", "{tmp}/data"], "untrained holds no training images"),
    "nothing to evaluate on": (
        ["{untested}", "{tmp}/data", "--name", "my_set"],
        "untested holds no images to evaluate on, .* --validation_examples N holds out",
    ),
    "all held out": (
        ["{untested}", "{tmp}/data", "--name", "my_set", "--validation_examples", "2"],
        "--validation_examples is 2, but SOURCE has 2 training images: hold out fewer",
    ),
    "none held out": (
        ["{untested}", "{tmp}/data", "--validation_examples", "0"],
        "--validation_examples must be a positive number, not 0",
    ),
    "held out twice": (
        ["{good}", "{tmp}/data", "--validation_examples", "1"],
        "has validation images in .*val: leave it out",
    ),
    "a single class": (
        ["{single}", "{tmp}/data", "--name", "my_set"],
        "train holds a single class, only, and a classifier needs two",
    ),
    "two data sets": (
        ["{several}", "{tmp}/data", "--name", "my_set"],
        "several holds several data sets, .*one and .*two: name one",
    ),
    "a class of two lines": (["{lines}", "{tmp}/data", "--name", "my_set"], "cannot be the name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_line_gets_one_sentence(case, folders, tmp_path, capfd):
    arguments, message = WRONG[case]
    (tmp_path / "file").write_text("in the way")
    label = CLASSES[0]
    for path in (
        "empty/",
        "apes/train/ape/a.jpg",
        "apes/val/bee/a.jpg",
        "unnumbered/val/a.JPEG",
        "high/val/ILSVRC2012_val_00050001.JPEG",
        "flat/train/a.jpg",
        f"two/val/{label}/a.jpg",
        f"two/validation/{label}/a.jpg",
        f"untrained/val/{label}/a.jpg",
        "untested/train/a/a.jpg",
        "untested/train/b/b.jpg",
        "single/train/only/a.jpg",
        "single/val/only/a.jpg",
        *(f"several/{set_}/train/{label}/a.jpg" for set_ in ("one", "two") for label in "ab"),
        "lines/train/a\nb/a.jpg",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).mkdir() if path.endswith("/") else (tmp_path / path).write_text("")
    before = sorted(tmp_path.rglob("*"))
    places = {name.name: name for name in tmp_path.iterdir()} | {"good": folders, "tmp": tmp_path}
    assert prepare.main([argument.format(**places) for argument in arguments]) == 2
    assert re.search(message, error_of(capfd))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_with_too_little_room_is_refused(folders, tmp_path, capfd, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert prepare.main([str(folders), str(tmp_path / "data")]) == 2
    assert "is too full: 1.0 MB are free" in error_of(capfd)
    assert not (tmp_path / "data").exists()


def test_another_source_or_set_is_refused(without_processes, folders, tars, tmp_path, capfd):
    final = tmp_path / "imagenet2012" / "5.1.0"
    final.mkdir(parents=True)
    assert prepare.main([str(folders), str(tmp_path)]) == 2
    assert "is in the way" in error_of(capfd)
    final.rmdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            processes, "run", lambda *_: (_ for _ in ()).throw(processes.Failed("enough"))
        )
        assert prepare.main([str(folders), str(tmp_path)]) == 1
    assert "enough" in error_of(capfd)
    assert prepare.main([str(tars), str(tmp_path)]) == 2
    assert "begun with another SOURCE" in error_of(capfd)
    extra = folders / "train" / CLASSES[0] / "extra.JPEG"
    extra.write_bytes(b"")
    try:
        assert prepare.main([str(folders), str(tmp_path)]) == 2
    finally:
        extra.unlink()
    assert "another content of SOURCE" in error_of(capfd)
    assert prepare.main([str(folders), str(tmp_path)]) == 0
    capfd.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert prepare.main([str(folders), str(tmp_path)]) == 0
    assert f"is complete, from {folders}: nothing to do" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Processes that end as they should not. They are started from one that has imported TensorFlow.

SERVER = """
import os, sys
from keras_elu.prepare import __main__ as prepare, plan
plan.SHARD = 30_000
for line in sys.stdin:
    log, *arguments = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        sys.argv[1:] = arguments
        prepare.command()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    def __init__(self, folder):
        self.log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def start(self, *arguments):
        """Begins a command, and returns the number of its process."""
        print(self.log, *arguments, sep="\t", file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def end(self):
        """Waits for its exit code."""
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


def workers_of(pid):
    """The workers of a process, besides Python's resource tracker."""
    return children(pid, b"spawn_main")


@pytest.mark.slow
def test_whatever_ends_it_the_same_command_goes_on(server, folders, tmp_path, capfd, monkeypatch):
    """It is killed three times, and told to stop, each time in the middle."""
    generator = random.Random(2)
    command = [folders, tmp_path, "--processes", "1"]
    folder = tmp_path / "imagenet2012" / "unfinished-5.1.0"
    complete, seen = (lambda: set(folder.glob("progress/imagenet2012-*-of-?????.json"))), set()
    for end in ("kill", "stop", "kill", "kill"):
        pid = server.start(*command)
        wait_until(lambda seen=seen: len(complete() - seen) >= 2)
        time.sleep(generator.uniform(0, 0.02))
        workers_ = workers_of(pid)
        if end == "stop":
            assert prepare.main([*map(str, command)]) == 2  # a second one meanwhile
            assert f"is in use by process {pid} on" in error_of(capfd)
            since = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            assert server.end() == os.EX_TEMPFAIL
            assert time.monotonic() - since < 2
            assert "SIGTERM: stopped. Run the same command to resume" in server.log.read_text()
        else:
            os.kill(pid, signal.SIGKILL)
            assert server.end() == -signal.SIGKILL
        wait_until(lambda: not any(map(alive, workers_)), 20)  # noqa: B023
        assert "Traceback" not in server.log.read_text()
        assert not tfds.builder("imagenet2012", data_dir=tmp_path).is_prepared()
        seen = complete()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*tfrecord*")}
    monkeypatch.setattr(processes, "run", here)  # which starts sooner
    monkeypatch.setattr(plan, "SHARD", 30_000)
    assert prepare.main([*map(str, command)]) == 0
    written = tmp_path / "imagenet2012" / "5.1.0"
    finished = {path.name.removesuffix(".json") for path in seen}
    for name in finished & before.keys():
        assert (written / name).stat().st_mtime_ns == before[name]
    assert len(finished & before.keys()) >= 8
    assert prepare.main([str(folders), str(tmp_path / "whole")]) == 0
    assert files(written) == files(tmp_path / "whole" / "imagenet2012" / "5.1.0")
    assert not folder.exists()


def test_ctrl_c_at_once_is_heeded_too(server, folders, tmp_path):
    pid = server.start(folders, tmp_path, "--processes", "2")
    wait_until(lambda: workers_of(pid))
    started = workers_of(pid)
    for worker in started:  # a terminal sends it to all
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    time.sleep(0.5)
    assert all(map(alive, started))
    since = time.monotonic()
    os.kill(pid, signal.SIGINT)
    assert server.end() == os.EX_TEMPFAIL
    assert time.monotonic() - since < 2
    assert "Traceback" not in server.log.read_text()
    assert not files(tmp_path / "imagenet2012" / "unfinished-5.1.0")


def test_a_process_that_dies_ends_it(server, folders, tmp_path):
    pid = server.start(folders, tmp_path, "--processes", "2")
    wait_until(lambda: len(workers_of(pid)) == 2)
    os.kill(workers_of(pid)[1], signal.SIGKILL)
    assert server.end() == 1
    text = server.log.read_text()
    assert "error: A process was killed by SIGKILL" in text
    assert "run the same command to resume" in text
    assert "Traceback" not in text


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_it_and_room_lets_it_go_on(server, folders, small_disk, monkeypatch):
    other = small_disk / "other"  # what fills the disk while it writes
    pid = server.start(folders, small_disk, "--resize", "128", "--processes", "1")
    wait_until(lambda: workers_of(pid))
    with contextlib.suppress(OSError):
        other.write_bytes(bytes(2**21))
    assert server.end() == 1
    text = server.log.read_text()
    assert "No space left on device" in text
    assert "run the same command to resume" in text
    assert "Traceback" not in text
    other.unlink()
    monkeypatch.setattr(processes, "run", here)
    monkeypatch.setattr(plan, "SHARD", 30_000)
    assert prepare.main([str(folders), str(small_disk), "--resize", "128"]) == 0
    assert len(records("imagenet2012_128", small_disk, "validation")) == 5


def test_help_says_what_each_choice_costs(capfd):
    with pytest.raises(SystemExit) as ended:
        prepare.main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capfd.readouterr().out.split())
    for each in (plan.ORIGINAL, plan.RESIZED, plan.RAW):
        assert f"{each:,}" in text
    for flag in ("--name", "--resize", "--raw", "--processes"):
        assert flag in text
