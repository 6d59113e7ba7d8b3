"""From the archives of ImageNet to a trained network, with each command killed once."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

FLAGS = (
    *("--dataset", "imagenet2012", "--strategy", "mirrored", "--virtual_devices", 2),
    *("--width", 1 / 64, "--image_size", 32, "--augmentation", "resized_crop"),
    *("--batch_size", 8, "--epochs", 2, "--checkpoint_every", 1),
)


def jpeg(number):
    whole = sklearn.datasets.load_sample_images().images[number % 2]
    top, left = np.random.default_rng(number).integers((0, 0), (200, 400))
    buffer = io.BytesIO()
    Image.fromarray(whole[top : top + 200, left : left + 240]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def of_sklearn():
    """40 training images of three classes, by name, and 8 validation images."""
    classes = ("n01440764", "n02119789", "n07714571")
    named = {f"{classes[n % 3]}_{n}.JPEG": jpeg(n) for n in range(40)}
    return named, [jpeg(n) for n in range(40, 48)]


def of_imagenet():
    """380 training images of as many classes, by name; the first 20 are also for validation."""
    if "KERAS_ELU_DATA" not in os.environ:
        pytest.skip("KERAS_ELU_DATA is not set")
    folder = pathlib.Path(os.environ["KERAS_ELU_DATA"], "imagenet_sample")
    paths = sorted(folder.iterdir())
    named = {path.name.partition("_")[0] + "_0.JPEG": path.read_bytes() for path in paths}
    return named, list(named.values())[:20]


def archives(folder, train, validation):
    """The two archives of ILSVRC2012."""

    def add(tar, name, encoded):
        info = tarfile.TarInfo(name)
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))

    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as tar:
        for wnid in sorted({name.partition("_")[0] for name in train}):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for name in train:
                    if name.startswith(wnid):
                        add(of_class, name, train[name])
            add(tar, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for number, encoded in enumerate(validation, 1):
            add(tar, f"ILSVRC2012_val_{number:08}.JPEG", encoded)


def folders(folder, train, validation):
    """The extracted archives."""
    for name, encoded in train.items():
        path = folder / "train" / name.partition("_")[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    (folder / "val").mkdir()
    for number, encoded in enumerate(validation, 1):
        (folder / "val" / f"ILSVRC2012_val_{number:08}.JPEG").write_bytes(encoded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("photographs", "form"),
    [(of_sklearn, archives), (of_imagenet, archives), (of_imagenet, folders)],
)
def test_from_the_archives_to_a_trained_network(
    photographs, form, trainer, start, environment, tmp_path
):
    train, validation = photographs()
    source = tmp_path / "source"
    source.mkdir()
    form(source, train, validation)
    data = tmp_path / "data"
    prepare = [sys.executable, "-m", "keras_elu.prepare", source, data]
    killed = subprocess.Popen(prepare, env=environment, stdout=subprocess.DEVNULL)
    while killed.poll() is None and not list(data.rglob("*tfrecord*")):
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -9
    done = subprocess.run(prepare, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = tfds.as_numpy(tfds.load("imagenet2012", data_dir=data, split="train"))
    assert {one["file_name"].decode() for one in held} == set(train)

    flags = (*FLAGS, "--data_dir", data)
    whole = trainer("imagenet", *flags, "--run_dir", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = start("imagenet", *flags, "--run_dir", "killed", cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 1/2"):
            break
    process.kill()
    assert process.wait() == -9
    again = trainer("imagenet", *flags, "--run_dir", "killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming after" in again.stdout
    ours, theirs = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("killed", "whole")
    )
    for split in ("training", "validation", "test"):
        assert ours[split] == theirs[split]
    assert "top_5_accuracy" in ours["test"]
