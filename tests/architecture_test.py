"""The rooms of the package: imports go down, never round in a circle, and no room grows too big."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the ground up. A module imports only from its own room and from floors below it.
FLOORS = [
    {"system"},
    {"commands", "environment", "files", "initializers", "optimizers", "schedules", "tfrecord"},
    {"layers", "data"},
    {"models", "prepare"},
    {"diagnostics", "steps"},
    {"distributed"},
    {"monitoring"},
    {"training"},
    {"recipes"},
    {"audit", "doctor", "experiments", "export", "launch", "predict", "report", "tuning"},
    {"trainers", "benchmarks"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
LARGEST_ROOM = 0.15  # of the lines of the package
LONGEST_MODULE = 400  # lines
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("keras_elu", "trainers", "tuning", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGE = [path for path in FILES if path.parts[0] == "keras_elu"]


def room(path):
    """The room that a file belongs to: a folder, a module at the top, or a folder of scripts."""
    parts = path.with_suffix("").parts
    return "trainers" if parts[0] == "tuning" else parts[parts[0] == "keras_elu"]


def name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(path) for path in PACKAGE}


# Other modules of that room are the tables of a recipe, and have no Config.
RECIPES = {
    name(path)
    for path in PACKAGE
    if room(path) == "recipes" and "\nclass Config(" in (ROOT / path).read_text()
}


def imported(path):
    """The modules of the package that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for found in names:
            while found not in MODULES and "." in found:
                found = found.rpartition(".")[0]
            if found in MODULES and found != "keras_elu":
                yield found


def violations(path, imports):
    own = room(path)
    for module in imports:
        other = module.split(".")[1]
        if other == own:
            if own == "recipes" and module in RECIPES - {name(path)}:
                yield f"{path} imports another recipe, {module}"
        elif FLOOR[other] >= FLOOR[own]:
            yield f"{path} (floor {FLOOR[own]}) imports {module} (floor {FLOOR[other]})"


def circle(imports):
    """The modules of a circle of imports; None where there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parts != ("keras_elu", "__init__.py")], ids=str
)
def test_a_module_imports_from_below_only(path):
    assert not list(violations(path, imported(path)))


def test_no_modules_import_each_other_in_a_circle():
    # A package's __init__ only hands on the names of the modules in it.
    plain = [path for path in PACKAGE if path.name != "__init__.py"]
    assert circle({name(path): set(imported(path)) for path in plain}) is None


@pytest.mark.parametrize("own", sorted(FLOOR.keys() - {"trainers", "benchmarks"}))
def test_an_upward_import_is_found_in_every_room(own):
    path = pathlib.Path("keras_elu", own, "elu.py")
    for floor, others in enumerate(FLOORS[:-1]):
        for other in others - {own}:
            found = list(violations(path, [f"keras_elu.{other}.elu"]))
            assert bool(found) == (floor >= FLOOR[own]), other


def test_the_rules_find_what_they_forbid():
    recipe = pathlib.Path("keras_elu/recipes/a.py")
    assert list(violations(recipe, ["keras_elu.recipes.mnist"]))
    assert not list(violations(recipe, ["keras_elu.recipes.cifar_networks"]))
    assert not list(violations(recipe, ["keras_elu.training", "keras_elu.data.loading"]))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert circle({"a": {"b"}, "b": {"c"}}) is None


def lines(paths):
    return sum(len((ROOT / path).read_text().splitlines()) for path in paths)


@pytest.mark.parametrize("own", sorted({room(path) for path in PACKAGE}))
def test_no_room_holds_too_much_of_the_package(own):
    share = lines(path for path in PACKAGE if room(path) == own) / lines(PACKAGE)
    assert share <= LARGEST_ROOM


@pytest.mark.parametrize("path", PACKAGE, ids=str)
def test_a_module_can_be_read_at_one_sitting(path):
    assert lines([path]) <= LONGEST_MODULE


@pytest.mark.parametrize("folder", ["layers", "models"])
def test_layers_and_models_need_no_particular_backend(folder):
    for path in (p for p in FILES if p.parts[:2] == ("keras_elu", folder)):
        top = ast.parse((ROOT / path).read_text()).body
        names = {a.name for node in top if isinstance(node, ast.Import) for a in node.names}
        assert not names & {"tensorflow", "jax", "torch"}, path
