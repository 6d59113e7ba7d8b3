"""What the README shows works."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
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


def test_every_flag_it_names_is_a_flag_of_every_trainer():
    from keras_elu.training import Config

    of_others = {"help", "kind", "runs", "stock", "workers"}
    flags = set(re.findall(r"--(\w+)", README)) - of_others
    assert {"strategy", "config"} <= flags
    assert flags <= set(Config.__dataclass_fields__)
