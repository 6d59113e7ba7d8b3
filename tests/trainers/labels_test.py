"""Other people's labels, from folders of pictures to an evaluation, by the real commands."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ("--image_size", 32, "--width", 1 / 64, "--batch_size", 8, "--epochs", 1)


def write_pictures(folder, classes):
    dice = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = dice.integers(0, 256, (40, 48, 3), np.uint8)
                path = folder / split / name / f"{number}.jpg"
                PIL.Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def prepare(environment, tmp_path):
    """Prepares pictures of some classes as a data set, and returns the completed process."""

    def prepare(name, classes):
        write_pictures(tmp_path / "pictures" / name, classes)
        command = [sys.executable, "-m", "keras_elu.prepare", tmp_path / "pictures" / name]
        command += [tmp_path / "data", "--name", name, "--processes", 1]
        return subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True
        )

    return prepare


def error(done):
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.slow
def test_a_model_meets_sets_with_other_classes(prepare, trainer, tmp_path):
    for name, classes in (
        ("pets", ("bird", "cat", "dog")),
        ("wild", ("cat", "dog", "fox")),
        ("fewer", ("cat", "dog")),
        ("more", ("bird", "cat", "dog", "fox")),
    ):
        assert prepare(name, classes).returncode == 0
    where = ("--data_dir", tmp_path / "data")
    done = trainer(
        "imagenet", "--dataset", "pets", "--run_dir", "run", *where, *FLAGS, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    names = json.loads((tmp_path / "run" / "class_names.json").read_text())
    assert names == ["bird", "cat", "dog"]

    def evaluated(name):
        return trainer("imagenet", "--evaluate", "run", "--dataset", name, *where, cwd=tmp_path)

    assert "lacks 'fox'" in error(evaluated("wild"))
    assert "The model has 3 classes, 'bird', 'cat', 'dog', and more has 4" in error(
        evaluated("more")
    )
    fewer = evaluated("fewer")
    assert fewer.returncode == 0, fewer.stderr
    assert "test" in fewer.stdout
    resumed = trainer(
        *("imagenet", "--dataset", "pets", "--run_dir", "run", "--data_dir", tmp_path / "data"),
        *(*FLAGS, "--config", tmp_path / "run" / "config.json"),
        cwd=tmp_path,
    )
    assert "already complete" in resumed.stdout


@pytest.mark.slow
def test_a_single_class_is_refused_with_a_hint(prepare, tmp_path):
    line = error(prepare("alone", ("only",)))
    assert "holds a single class, only, and a classifier needs two" in line
    assert not (tmp_path / "data" / "alone").exists()


UNLABELLED = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Pictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        label = tfds.features.ClassLabel(names=["cat", "dog"])
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(16, 2), "test": self._generate_examples(4, 0)}
    def _generate_examples(self, count, classes):
        dice = np.random.default_rng(count)
        for i in range(count):
            image = dice.integers(0, 256, (40, 40 + i % 2, 3), np.uint8)
            yield i, {"image": image, "label": i % classes if classes else -1}

Pictures(data_dir=sys.argv[1]).download_and_prepare()
"""


@pytest.mark.slow
def test_a_run_on_a_set_without_test_labels_is_refused_or_trains_and_is_saved(
    environment, trainer, tmp_path
):
    command = [sys.executable, "-c", UNLABELLED, str(tmp_path / "data")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    flags = ("--dataset", "pictures", "--run_dir", "run", "--data_dir", tmp_path / "data", *FLAGS)
    line = error(trainer("imagenet", *flags, cwd=tmp_path))
    assert "--validation_examples" in line
    assert not (tmp_path / "run").exists()
    done = trainer("imagenet", *flags, "--validation_examples", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pictures: test has no labels and is not used." in done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"] == pytest.approx(result["validation"])
    assert (tmp_path / "run" / "model.keras").stat().st_size > 0
