"""What the README and the pages of docs/ show works: snippets, commands, files, links."""

import argparse
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import pytest
import tyro

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = pytest.mark.slow
# Pages whose first block of commands is a worked example of less than a minute: it is executed.
WORKED = ("trainers", "monitoring", "resuming")
pytestmark = pytest.mark.tensorflow


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M)


def prose(page):
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.M)


def commands(page):
    """The commands of a page, as (environment, words), without comments."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            variables = []
            while words and re.match(r"[A-Z0-9_]+=", words[0]):
                variables.append(words.pop(0))
            if words and words[0] != "export":
                yield variables, words


def identity(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def checkout(tmp_path, digits_run):
    """A folder that leads to all files of the checkout, with a run like that of `make train`."""
    shutil.copytree(digits_run, tmp_path / "runs" / "imagenet-digits")
    for name in ("Makefile", "benchmarks", "docs", "keras_elu", "tests", "trainers", "tuning"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command, folder):
    environment = os.environ | {
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": str(folder / "data"),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.name == "README.md" else SLOW, id=identity(page))
        for page in PAGES
        if blocks(page, "python")
    ],
)
def test_the_snippets_of_a_page_run_in_order(page, checkout):
    code = "\n".join(blocks(page, "python"))
    out = run([sys.executable, "-c", code], checkout)
    shown = re.findall(r"print\(.*\)\n?(?:  )?# (.*(?:\n# .*)*)", code)
    for text in re.sub(r"\n# ", "\n", "\n".join(shown)).splitlines():
        assert text in out


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKED)
def test_the_worked_example_of_a_page_runs(name, checkout):
    example = blocks(ROOT / "docs" / f"{name}.md", "sh")[0]
    run(["bash", "-euc", example], checkout)


COMMANDS = [
    pytest.param(page, words, id=f"{identity(page)}: {' '.join(words)}")
    for page in PAGES
    for _, words in commands(page)
]


class Accepted(BaseException):
    """A parser has taken the whole command line."""


@pytest.fixture
def parsing_only(monkeypatch):
    """Ends a command as soon as its own parser has accepted its arguments."""

    def ending(parse):
        def parse_and_end(*arguments, **keywords):
            parsed = parse(*arguments, **keywords)
            if set(vars(parsed)) == {"script", "flags"}:
                return parsed  # audit and doctor leave the flags to the trainer's parser
            raise Accepted

        return parse_and_end

    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(tyro, "cli", ending(tyro.cli))
    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", ending(parse))


def execute(words, monkeypatch):
    """Does what `python WORDS` does, in this process."""
    if words[0] == "-m":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.syspath_prepend(pathlib.Path(words[0]).parent)  # as Python does for a script
        runpy.run_path(words[0], run_name="__main__")


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_a_command_is_accepted(page, words, checkout, parsing_only, monkeypatch):
    monkeypatch.chdir(checkout)
    program, *rest = words
    if program == "make":
        (target,) = rest
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pytest":
        assert all((ROOT / path).exists() for path in rest)
    elif rest == ["docs/architecture.py"]:
        return  # It has no arguments; tests/architecture_test.py runs it.
    else:
        assert program == "python"
        with pytest.raises(Accepted):
            execute(rest, monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        ["trainers/mnist.py", "--no_such_flag", "1"],
        ["tuning/mnist.py", "--max_trials", "many"],
        ["-m", "keras_elu.audit", "trainers/mnist.py", "--strategy", "magic"],
        ["-m", "keras_elu.doctor", "trainers/mnist.py", "--no_such_flag"],
        ["-m", "keras_elu.experiments", "mnist", "--no_such_flag"],
        ["-m", "keras_elu.launch", "trainers/mnist.py"],
        ["-m", "keras_elu.prepare", "SOURCE", "DATA_DIR", "--no_such_flag"],
        ["-m", "keras_elu.report", "--no_such_flag"],
        ["-m", "keras_elu.predict", "RUN", "PATH", "--no_such_flag"],
        ["-m", "keras_elu.export", "RUN", "OUT", "--to", "no_such_format"],
        ["benchmarks/steps.py", "--tables", "no_such_table"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_not_accepted(words, checkout, parsing_only, monkeypatch):
    monkeypatch.chdir(checkout)
    with pytest.raises(SystemExit) as stop:
        execute(words, monkeypatch)
    assert stop.value.code == 2


def test_every_flag_in_the_prose_is_one(capsys, monkeypatch):
    told = {flag for page in PAGES for flag in re.findall(r"`[^`\n]*?--(\w+)", prose(page))}
    assert {"strategy", "config", "resize", "space", "recover"} <= told
    monkeypatch.chdir(ROOT)
    for words in (
        *(["trainers/imagenet_resnet.py"], ["trainers/cifar.py"], ["trainers/fast_cifar.py"]),
        ["tuning/mnist.py"],
        *(["-m", "keras_elu.prepare"], ["-m", "keras_elu.experiments"]),
        *(["-m", "keras_elu.launch"], ["-m", "keras_elu.report"]),
        *(["-m", "keras_elu.predict"], ["-m", "keras_elu.export"]),
    ):
        with pytest.raises(SystemExit):
            execute([*words, "--help"], monkeypatch)
    known = set(re.findall(r"--(\w+)", capsys.readouterr().out))
    assert told <= known


def slug(heading):
    """The anchor that GitHub, and the site, give to a heading."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page):
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


def broken(page):
    """The relative links and pictures of a page that lead nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=identity)
def test_every_relative_link_and_anchor_resolves(page):
    assert not list(broken(page))


def test_a_broken_link_or_anchor_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[a](#a-b-c) [b](#b) [c](page.md#a-b-c) [d](no.md) ![e](no.png)\n")
    assert list(broken(page)) == ["#b", "no.md", "no.png"]


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_file_and_make_target_it_names_exists(page):
    text = page.read_text("utf-8")
    named = re.findall(r"(?<![\w/.])(?:trainers|tests|docs|benchmarks|keras_elu)/[\w/.]*\w", text)
    assert not [path for path in named if not (ROOT / path).exists()]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make ([\w-]+)|^make ([\w-]+)", text, re.MULTILINE)
    for target in map("".join, targets):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def missing_tests(text):
    """The tests that a text names, as `file_test.py::test_name`, and that don't exist."""
    for file, name in re.findall(r"`(\w+_test\.py)::(\w+)`", text):
        found = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
        if not any(re.search(rf"^def {name}\(", code, re.MULTILINE) for code in found):
            yield f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_test_it_names_exists(page):
    assert not list(missing_tests(page.read_text("utf-8")))


def test_a_name_of_no_test_is_found():
    named = (
        "docs_test.py::test_a_name_of_no_test_is_found",
        "docs_test.py::test_x",
        "x_test.py::y",
    )
    assert list(missing_tests(" ".join(f"`{name}`" for name in named))) == list(named[1:])


@pytest.mark.parametrize(
    ("page", "heading", "rows"),
    [
        ("distributed", "What it takes and what it refuses", 30),
        ("exactness", "Exporting, quantizing, differentiating", 13),
    ],
)
def test_every_row_of_a_promise_names_its_test(page, heading, rows):
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n#")[0]
    table = [row for row in re.findall(r"^\|.*\|$", section, re.MULTILINE) if "---" not in row]
    promises = [row for row in table if not row.endswith("| test |")]
    assert len(promises) >= rows
    assert not [row for row in promises if "_test.py::test_" not in row.split("|")[-2]]


def test_every_picture_and_page_is_shown():
    docs = ROOT / "docs"
    text = "".join(page.read_text("utf-8") for page in PAGES)
    pictures = [path.name for path in docs.iterdir() if path.suffix in (".png", ".svg")]
    assert pictures
    assert not [name for name in pictures if f"{name})" not in text]
    index = (docs / "index.md").read_text("utf-8")
    pages = [page.stem for page in docs.glob("*.md") if page.stem != "index"]
    assert not [name for name in pages if not re.search(rf"^{name}$", index, re.MULTILINE)]


def test_the_drawing_of_the_rooms_is_up_to_date():
    made = runpy.run_path(str(ROOT / "docs" / "architecture.py"))
    drawn = made["draw"](made["imports"]())
    assert drawn == made["PICTURE"].read_text("utf-8"), "run: python docs/architecture.py"


def test_the_rooms_are_found_from_the_imports(tmp_path):
    made = runpy.run_path(str(ROOT / "docs" / "architecture.py"))
    package = tmp_path / "keras_elu"
    (package / "high").mkdir(parents=True)
    (package / "__init__.py").write_text("from keras_elu import high\n")
    (package / "low.py").write_text("import math\n")
    (package / "middle.py").write_text("from keras_elu.low import x\n")
    (package / "high" / "a.py").write_text(
        "from keras_elu import middle\ndef f():\n    import keras_elu.low\n"
    )
    below = made["imports"](tmp_path)
    assert below == {"high": {"middle", "low"}, "low": set(), "middle": {"low"}}
    assert made["floors"](below) == {"low": 0, "middle": 1, "high": 2}
    assert made["reduced"](below)["high"] == {"middle"}
