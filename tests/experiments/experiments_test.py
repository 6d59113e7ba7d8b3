"""Every experiment, shrunken, by its command."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

from keras_elu import training
from keras_elu.experiments import __main__ as command
from keras_elu.experiments import page, results, running, tables
from keras_elu.experiments.experiment import plan
from keras_elu.training import devices

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.tensorflow
SMALL = ["--dataset=digits", "--validation_examples=200", "--batch_size=400"]
SHRUNKEN = {
    "mnist": ["--epochs=3", "--seeds=0"],
    "autoencoder": ["--epochs=1"],
    "cifar100": ["--epochs=1", "--seeds=0", "--precision=float32", "--steps_per_epoch=1"],
    "imagenet_proxy": ["--epochs=1", "--seeds=0,1", "--width=0.02", "--image_size=32"],
    "batch_norm": ["--epochs=1", "--seeds=0", "--precision=float32", "--steps_per_epoch=1"],
    "fast_cifar": ["--epochs=2", "--seeds=0", "--widths=2,3,4"],
    "fast_cifar_tricks": ["--epochs=2", "--seeds=0", "--widths=2,3,4"],
}


def run(tmp_path, name, *flags):
    given = [name, *SMALL, f"--runs={tmp_path / 'runs'}", f"--docs={tmp_path}", *flags]
    return command.main(given)


def held(tmp_path, name):
    return json.loads((tmp_path / "results" / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", SHRUNKEN)
def test_an_experiment_trains_tests_and_draws(name, tmp_path):
    assert run(tmp_path, name, *SHRUNKEN[name]) == 0
    experiment = tables.EXPERIMENTS[name]
    runs = held(tmp_path, name)["runs"]
    assert {run["arm"] for run in runs} == set(experiment.arms)
    assert {run["case"] for run in runs} == set(experiment.cases)
    assert {bool(run["test"]) for run in runs} == {experiment.tested}
    assert (tmp_path / f"experiment_{name}.png").stat().st_size > 10_000
    text = (tmp_path / "results.md").read_text()
    for ordering in experiment.orderings:
        assert f"| {ordering.measure}: {ordering.arms[0]} < " in text
    (tmp_path / f"experiment_{name}.png").unlink()
    assert run(tmp_path, name, "--draw") == 0  # from the results alone
    assert (tmp_path / f"experiment_{name}.png").exists()
    assert (tmp_path / "results.md").read_text() == text


@pytest.mark.slow
def test_a_stopped_experiment_resumes_and_keeps_its_numbers(tmp_path, monkeypatch, capsys):
    flags = ["--arms=elu", "--seeds=0", "--epochs=2"]
    stops = iter([False, True])
    monkeypatch.setattr(command.StopSignals, "__call__", lambda self: next(stops, False))
    assert run(tmp_path, "mnist", *flags) == 75
    assert not (tmp_path / "results" / "mnist.json").exists()
    assert run(tmp_path, "mnist", *flags) == 0
    (resumed,) = held(tmp_path, "mnist")["runs"]
    assert run(tmp_path / "whole", "mnist", *flags) == 0
    (whole,) = held(tmp_path / "whole", "mnist")["runs"]
    for found in (resumed, whole):
        del found["curves"]["images_per_second"]
    assert resumed["curves"] == whole["curves"]
    assert resumed["test"] == whole["test"]
    assert len(whole["curves"]["median_activation"]) == 2
    capsys.readouterr()
    # Results under other flags are neither mixed nor lost.
    assert run(tmp_path, "mnist", "--arms=elu", "--seeds=0", "--epochs=3") == 2
    assert "holds results with the epochs 2 instead of 3" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_diverges_is_a_result(tmp_path):
    flags = ["--arms=elu", "--epochs=9", "--batch_size=10", "--validation_examples=0"]
    assert run(tmp_path, "autoencoder", *flags) == 0
    diverged = {run["case"]: run["diverged"] for run in held(tmp_path, "autoencoder")["runs"]}
    assert diverged["1e-2"] > 0
    assert diverged["1e-5"] is None
    assert "1 of 1 diverged" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such"], "invalid choice: 'no_such'"),
        ([], "the following arguments are required: NAME"),
        (["mnist", "--arms=gelu"], "--arms gelu is not in this experiment"),
        (["mnist", "--seeds=9"], "--seeds 9 is not in this experiment"),
        (["mnist", "--epochs=0"], "--epochs must be a whole number from 1"),
        (["mnist", "--no_such=1"], "--no_such"),
        (["mnist", "--draw"], "holds no results yet"),
    ],
)
def test_a_wrong_command_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def kernels(planned):
    strategy = devices.set_up(planned.config)
    model = training.prepare_run(planned.recipe, planned.config, strategy).model
    layers = (keras.layers.Dense, keras.layers.Conv2D)
    return [layer.get_weights()[0] for layer in model.layers if isinstance(layer, layers)]


@pytest.mark.parametrize(
    ("name", "arms"), [("mnist", ("elu", "relu")), ("cifar100", ("relu", "elu_batch_norm"))]
)
def test_runs_of_one_seed_start_from_the_same_weights(name, arms):
    planned = plan(tables.EXPERIMENTS[name], [*SMALL, "--precision=float32"], "runs")
    chosen = [run for run in planned if run.seed == 1 and run.arm in arms]
    other = next(run for run in planned if run.seed == 2)
    first, second, third = map(kernels, [*chosen, other])
    assert len(first) == len(second) >= 9
    for a, b, c in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_the_arms_of_an_experiment_differ_as_named():
    for experiment in tables.EXPERIMENTS.values():
        for run in plan(experiment, [], "runs"):
            activation = experiment.arms[run.arm].flags["activation"]
            assert run.arm.startswith(activation)
            assert run.config.activation == activation
            assert run.config.run_dir == f"runs/{experiment.name}/{run.name}"


def test_a_section_is_added_once_and_text_around_it_is_kept():
    experiment = tables.EXPERIMENTS["batch_norm"]
    found = {
        "command": "python -m keras_elu.experiments batch_norm",
        "runs": [
            {
                **{"arm": arm, "case": "", "seed": 0, "diverged": None, "steps": 10, "seconds": 60},
                **{"commit": "abc", "processor": "CPU", "versions": {"keras": "3"}},
                "test": {"accuracy": accuracy, "loss": 1},
                "curves": {"loss": [accuracy], "val_error": [1 - accuracy]},
            }
            for arm, accuracy in (("elu", 0.75), ("relu", 0.5))
        ],
    }
    text = page.insert("# Results\n", experiment, found)
    assert text.startswith(f"# Results\n\n## {experiment.title}\n")
    assert "| elu | 1 | 0.25 | 0.75 |" in text
    assert "| test error: relu < elu | 1 | 0 | -0.25 | 1 |" in text
    found["runs"][0]["test"]["accuracy"] = 0.875
    again = page.insert(f"{text}\nWritten by hand.\n", experiment, found)
    assert "| elu | 1 | 0.125 | 0.75 |" in again
    assert again.endswith("Written by hand.\n")
    assert again.count(experiment.title) == 2  # the heading, and the figure


def test_the_folders_of_a_machine_are_not_in_the_command():
    flags = ["--manual_dir", "/data", "--epochs=2", "--data_dir=/tfds"]
    kept = ["--manual_dir", "FOLDER", "--epochs=2", "--data_dir=FOLDER"]
    assert command._without_places(flags) == kept


def test_the_sections_in_docs_are_those_of_the_results():
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    drawn = re.findall(r"<!-- experiment (\w+) -->", text)
    for name in drawn:
        experiment = tables.EXPERIMENTS[name]
        stored = results.read(ROOT / "docs" / "results" / f"{name}.json", experiment)
        assert page.insert(text, experiment, stored) == text, f"run: experiments {name} --draw"


def test_complete_and_diverged_runs_are_not_trained_again(tmp_path):
    (planned, *_) = plan(tables.EXPERIMENTS["mnist"], SMALL, str(tmp_path))
    folder = pathlib.Path(planned.config.run_dir)
    folder.mkdir(parents=True)
    assert not running.is_done(planned)
    (folder / running.DIVERGED).write_text("{}")
    assert running.is_done(planned)
