"""What the README shows works."""

import pathlib
import re

import pytest

from keras_elu.recipes import autoencoder, cifar, imagenet, imagenet_resnet, mnist
from keras_elu.tuning.config import SearchConfig

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = (autoencoder, cifar, imagenet, imagenet_resnet, mnist)
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.tensorflow
def test_the_first_model_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["model"].output_shape == (None, 10)
    assert "ELU" in {layer.__class__.__name__ for layer in names["resnet"].layers}


def test_every_file_and_make_target_it_names_exists():
    linked = [path for path in re.findall(r"\]\(([^)]+)\)", README) if "://" not in path]
    named = re.findall(r"(?:trainers|tests|docs|benchmarks|keras_elu)/[\w/.]*\w", README)
    missing = [path for path in {*linked, *named} if not (ROOT / path).exists()]
    assert linked
    assert not missing
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"make (\w+)", README)
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_flag_it_names_is_one():
    """Of the trainers, or of another of its commands."""
    of_trainers = {field for r in RECIPES for field in r.Config.__dataclass_fields__}
    commands = (
        *("keras_elu/launch.py", "keras_elu/prepare/__main__.py"),
        "keras_elu/report/__main__.py",
        *("tests/torture.py", "tests/search_torture.py"),
        *("benchmarks/combinations.py", "benchmarks/steps.py"),
    )
    code = "".join((ROOT / path).read_text(encoding="utf-8") for path in commands)
    of_others = {"help", *re.findall(r'add_argument\(\s*"--(\w+)"', code)}
    of_others |= set(SearchConfig.__dataclass_fields__)
    flags = set(re.findall(r"--(\w+)", README))
    assert {"strategy", "config", "resize"} <= flags
    assert flags <= of_trainers | of_others
