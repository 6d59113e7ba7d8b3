"""From the archives of ImageNet to a trained network, by its commands, each of them killed once."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

CLASSES = ("n01440764", "n02119789", "n07714571")
TRAIN, VALIDATION = 40, 8
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


@pytest.fixture
def archives(tmp_path):
    """ILSVRC2012's two, with photographs of scikit-learn."""
    folder = tmp_path / "archives"
    folder.mkdir()

    def add(tar, name, encoded):
        info = tarfile.TarInfo(name)
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))

    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as tar:
        for label, wnid in enumerate(CLASSES):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for number in range(label, TRAIN, len(CLASSES)):
                    add(of_class, f"{wnid}_{number}.JPEG", jpeg(number))
            add(tar, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for number in range(VALIDATION):
            add(tar, f"ILSVRC2012_val_{number + 1:08}.JPEG", jpeg(TRAIN + number))
    return folder


@pytest.mark.slow
def test_from_the_archives_to_a_trained_network(archives, trainer, start, environment, tmp_path):
    data = tmp_path / "data"
    prepare = [sys.executable, "-m", "keras_elu.data.prepare_imagenet", archives, data]
    killed = subprocess.Popen(prepare, env=environment, stdout=subprocess.DEVNULL)
    while killed.poll() is None and not list(data.rglob("*tfrecord*")):
        pass
    killed.kill()
    assert killed.wait() == -9
    done = subprocess.run(prepare, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = tfds.as_numpy(tfds.load("imagenet2012", data_dir=data, split="train"))
    names = {one["file_name"].decode() for one in held}
    assert names == {f"{CLASSES[n % 3]}_{n}.JPEG" for n in range(TRAIN)}

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
    assert "going on after" in again.stdout
    ours, theirs = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("killed", "whole")
    )
    for split in ("training", "validation", "test"):
        assert ours[split] == theirs[split]
    assert "top_5_accuracy" in ours["test"]
