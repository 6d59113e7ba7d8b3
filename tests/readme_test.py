"""The README is a page, and its first model is what it says; tests/docs_test.py runs the rest."""

import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_it_fits_on_a_page():
    assert len(README.splitlines()) <= 150


@pytest.mark.tensorflow
def test_the_first_model_runs():
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    names = {}
    exec(code, names)
    assert names["model"].output_shape == (None, 10)
    assert "ELU" in {layer.__class__.__name__ for layer in names["resnet"].layers}


def test_it_links_every_page_of_the_documentation():
    docs = pathlib.Path(__file__).parents[1] / "docs"
    pages = {f"docs/{page.name}" for page in docs.glob("*.md")} - {"docs/index.md", "docs/api.md"}
    assert pages
    assert pages <= set(re.findall(r"\]\(([^)#]+)", README))


def test_it_explains_eight_flags_of_the_trainers():
    from keras_elu.recipes import mnist

    flags = re.findall(r"^\| `--(\w+)", README, re.MULTILINE)
    assert len(set(flags)) == len(flags) == 8
    assert set(flags) <= set(mnist.Config.__dataclass_fields__)
