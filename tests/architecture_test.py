"""Modules import only from levels below their own."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LEVELS = [
    {"arguments", "environment"},
    {"layers", "schedules", "data"},
    {"models", "diagnostics"},
    {"training"},
    {"recipes"},
    {"trainers", "tuning", "benchmarks", "launch", "report"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("keras_elu", "trainers", "tuning", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)


def place(path):
    """The name of the part that a file belongs to, and the file's name in it."""
    parts = path.with_suffix("").parts
    parts = parts[1:] if parts[0] == "keras_elu" else parts
    return parts[0], parts[-1]


def imported(path):
    """Every `keras_elu` module that a file imports, wherever the import stands, as name parts."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (n.split(".")[1:] for n in names if n.startswith("keras_elu."))


def violations(path, imports):
    part, module = place(path)
    for name, *rest in imports:
        if name not in LEVEL or path == pathlib.Path("keras_elu/__init__.py"):
            continue
        if name == part:
            if part == "recipes" and rest and rest[0] != module:
                yield f"{path} imports another recipe, {rest[0]}"
        elif LEVEL[name] >= LEVEL[part]:
            yield f"{path} (level {LEVEL[part]}) imports {name} (level {LEVEL[name]})"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_imports_from_below_only(path):
    assert not list(violations(path, imported(path)))


def test_the_rule_finds_what_it_forbids():
    layers, recipe = pathlib.Path("keras_elu/layers/elu.py"), pathlib.Path("keras_elu/recipes/a.py")
    assert list(violations(layers, [["training"]]))
    assert list(violations(layers, [["models", "units"]]))
    assert list(violations(recipe, [["recipes", "b"]]))
    assert not list(violations(recipe, [["training"], ["data", "loading"], ["recipes", "a"]]))


@pytest.mark.parametrize("folder", ["layers", "models"])
def test_layers_and_models_need_no_particular_backend(folder):
    for path in (p for p in FILES if p.parts[:2] == ("keras_elu", folder)):
        top = ast.parse((ROOT / path).read_text()).body
        names = {a.name for node in top if isinstance(node, ast.Import) for a in node.names}
        assert not names & {"tensorflow", "jax", "torch"}, path
