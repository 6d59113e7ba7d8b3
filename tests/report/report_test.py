"""The report: its numbers, the runs that it takes, and its page in a real browser."""

import json
import re
import subprocess
import sys

import browser
import numpy as np
import pytest

from keras_elu.report import __main__ as report

ACCURACIES = {  # of validation, by epoch
    ("elu", 0): (0.5, 0.75, 0.9),
    ("elu", 1): (0.25, 0.5, 0.8),
    ("relu", 0): (0.2, 0.4, 0.6),
}


def make(folder, activation, seed, complete=True):
    """The folder of a run of 3 epochs of 10 steps, one minute each."""
    folder.mkdir()
    config = {"recipe": "mnist", "dataset": "digits", "activation": activation, "seed": seed}
    environment = {"processor": "a <processor>", "accelerators": [], "commit": "0123456789abcdef"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(environment))
    accuracies = ACCURACIES[activation, seed]
    speeds = [1000 + 200 * seed, 3, 1100 + 200 * seed]  # the second epoch had a pause
    columns = "epoch,loss,accuracy,val_loss,val_accuracy,images_per_second,seconds"
    rows = [
        f"{epoch},{1 / (epoch + 1)},{accuracy},{2 / (epoch + 1)},{accuracy},{speed},"
        f"{60 * (epoch + 1)}"
        for epoch, (accuracy, speed) in enumerate(zip(accuracies, speeds, strict=True))
    ]
    (folder / "history.csv").write_text("\n".join([columns, *rows]) + "\n")
    if complete:
        of = {"accuracy": accuracies[-1], "loss": 0.5 + seed}
        result = {"test": of, "validation": of, "steps": 30, "epochs": 3, "devices": 2}
        result |= {"images_per_second": 9.0, "seconds": 180.0}  # the mean suffers from it
        (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def folders(tmp_path):
    return [make(tmp_path / f"{name}-{seed}", name, seed) for name, seed in ACCURACIES]


def rows(page):
    """The cells of all tables, by the headings of their row and column."""
    found = {}
    for line in re.findall("<tr>(.*?)</tr>", page.read_text(encoding="utf-8"), re.DOTALL):
        heading = re.findall('<th scope="row">(.*?)</th>', line)
        cells = re.findall('<td data-name="(.*?)"><span>(.*?)</span></td>', line)
        if heading:
            found.setdefault(re.sub("<.*?>", "", heading[0]), {}).update(cells)
    return found


def test_seeds_form_one_group_and_cost_counts_up_to_the_accuracy_that_all_reached(
    folders, tmp_path
):
    page = tmp_path / "out" / "index.html"
    command = [sys.executable, "-m", "keras_elu.report", *folders, "--out", page.parent]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(page) in done.stdout
    elu, relu = (rows(page)[f"activation {name}"] for name in ("elu", "relu"))
    assert elu["test accuracy"] == "85.00% ± 7.07%"  # of 0.9 and 0.8
    assert relu["test accuracy"] == "60.00%"
    assert elu["test loss"] == "1.000 ± 0.707"
    assert elu["images/s"] == "1,100 ± 141"
    assert elu["device-hours"] == "0.1000 ± 0.0000"  # 180 s on 2 devices
    # relu reaches 60% in its third epoch, the two runs of elu in their second and third.
    assert (relu["time to 60.0%"], relu["steps to 60.0%"]) == ("3.0 min", "30")
    assert (elu["time to 60.0%"], elu["steps to 60.0%"]) == ("2.5 min ± 42.4 s", "25 ± 7")
    assert (elu["activation"], relu["activation"]) == ("elu", "relu")
    names = {f"{metric}{theme}.png" for metric in METRICS for theme in ("", "-dark")}
    assert {path.name for path in page.parent.iterdir()} == names | {"index.html"}


@pytest.mark.parametrize("asked", [[], ["--accuracy", "0.95"]])
def test_an_accuracy_in_float32_reaches_the_percent_that_it_is(asked, folders, tmp_path):
    history = folders[0] / "history.csv"
    history.write_text(history.read_text().replace("0.9,", f"{np.float32(0.95):.17g},"))
    out = tmp_path / "out"
    assert report.main([str(folders[0]), "--out", str(out), *asked]) == 0
    assert rows(out / "index.html")["mnist on digits"]["steps to 95.0%"] == "30"


def test_a_column_of_a_history_names_no_file_outside_the_folder(folders, tmp_path):
    history = folders[0] / "history.csv"
    history.write_text(history.read_text().replace(",accuracy,", f",{tmp_path}/a,", 1))
    assert report.main([str(folders[0]), "--out", str(tmp_path / "out")]) == 0
    assert not list(tmp_path.glob("*.png"))
    assert len(list((tmp_path / "out").glob("*.png"))) == 2 * len(METRICS)


METRICS = ("loss", "val_loss", "accuracy", "val_accuracy", "images_per_second")


def test_an_incomplete_run_is_compared_up_to_its_last_epoch(folders, tmp_path, capsys):
    other = make(tmp_path / "incomplete", "elu", 1, complete=False)
    assert report.main([str(folders[0]), str(other), "--out", str(tmp_path / "out")]) == 0
    page = tmp_path / "out" / "index.html"
    assert rows(page)["mnist on digits"]["runs"] == "1 of 2 complete"
    assert rows(page)[str(other)]["state"] == "3 epochs so far"
    assert "What differs" not in page.read_text(encoding="utf-8")


def test_folders_without_an_epoch_are_left_out_with_a_line_each(
    folders, tmp_path, monkeypatch, capsys
):
    """As `runs/*` gives them: one that has just started, a search, and a file."""
    (make(tmp_path / "new", "relu", 0) / "history.csv").unlink()
    (tmp_path / "search" / "trials").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    everything = sorted(path.name for path in tmp_path.iterdir())
    assert report.main([*everything, "--out", "out"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "left out: new is a run that has not completed an epoch yet.",
        "left out: notes.txt is not the folder of a run.",
        "left out: search is not the folder of a run.",
    ]
    assert "3 runs, 2 configurations" in (tmp_path / "out" / "index.html").read_text()


def test_a_run_that_is_given_by_several_paths_counts_once(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("elu-0")
    paths = ["elu-0", "./elu-0/", str(folders[0]), "relu-0/../elu-0", "link", "relu-0"]
    assert report.main([*paths, "--out", "out"]) == 0
    page = tmp_path / "out" / "index.html"
    assert "2 runs, 2 configurations" in page.read_text()
    assert rows(page)["activation elu"]["runs"] == "1"
    assert rows(page)["elu-0"]["seed"] == "0"  # named by its first path


def test_a_missing_extra_is_named_in_one_sentence(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert report.main([*map(str, folders), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said == "error: matplotlib is missing: pip install '.[plots]' installs it.\n"
    assert not (tmp_path / "out").exists()


BAD = {
    "no run": ([], "RUN"),
    "no folder": (["absent"], "absent does not exist"),
    "no run at all": (["."], "There is nothing to compare: . is not the folder of a run."),
    "no epoch": (["new"], "new is a run that has not completed an epoch yet."),
    "a damaged history": (["bad"], "bad is a run with a damaged history.csv"),
    "an accuracy in percent": (["absent", "--accuracy", "97"], "at most 1"),
    "a file for a folder": (["elu-0", "--out", "elu-0/config.json"], "cannot be written"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_a_wrong_command_ends_with_one_sentence_and_2(
    arguments, said, folders, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    (make(tmp_path / "new", "elu", 0) / "history.csv").write_text("epoch,loss\n")
    (make(tmp_path / "bad", "elu", 0) / "history.csv").write_text("epoch,loss\n0,low\n")
    before = sorted(tmp_path.rglob("*"))
    assert report.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before


SCREENS = {"phone": (390, 844, "dark"), "desktop": (1280, 900, "light")}


@pytest.mark.slow
def test_a_browser_shows_the_page_on_any_screen_without_a_network(folders, tmp_path):
    assert report.main([*map(str, folders), "--out", str(tmp_path / "out")]) == 0
    page = tmp_path / "out" / "index.html"
    with browser.opened() as opened:
        for width, height, theme in SCREENS.values():
            opened.show(page.as_uri(), width, height, theme)
            assert opened.console() == []
            asked = {address for address in opened.requests() if not address.startswith("data:")}
            assert asked == {page.as_uri()}
            pictures = opened.run("return [...document.images].map((i) => i.naturalWidth)")
            assert pictures == [800] * len(METRICS)
            assert opened.run("return document.documentElement.scrollWidth") <= width
            assert "85.00% ± 7.07%" in opened.run("return document.body.innerText")
            ground = opened.run("return getComputedStyle(document.body).backgroundColor")
            assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[theme]
            assert opened.picture().startswith(b"\x89PNG")


def test_the_report_says_which_model_is_of_which_epoch(tmp_path):
    folder = make(tmp_path / "run", "elu", 0)
    result = json.loads((folder / "result.json").read_text())
    best = {"model": "best.keras", "metric": "val_loss", "epoch": 2, "test": {"accuracy": 0.875}}
    (folder / "result.json").write_text(json.dumps(result | {"best": best, "stopped_after": 3}))
    assert report.main([str(folder), "--out", str(tmp_path / "report")]) == 0
    cells = rows(tmp_path / "report" / "index.html")
    assert cells["mnist on digits"]["test accuracy of the best epoch"] == "87.50%"
    assert cells[str(folder)]["models"] == (
        "model.keras: epoch 3, the last, stopped by its patience; "
        "best.keras: epoch 2, the best by val_loss"
    )
