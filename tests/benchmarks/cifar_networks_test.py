"""The script behind the table of networks at equal compute, without the training."""

import csv
import importlib
import json
import pathlib
import subprocess
import sys
import types

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"
ERRORS = {("auto", 0): 0.30, ("auto", 1): 0.32, ("elu", 0): 0.25, ("elu", 1): 0.26}


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module("cifar_networks")


@pytest.fixture
def commands(table, monkeypatch, tmp_path):
    """The commands of trainings, which only write a result."""
    given = []

    def train(command, cwd):
        given.append(command)
        flags = dict(zip(command[2::2], command[3::2], strict=False))
        folder = pathlib.Path(command[command.index("--run_dir") + 1])
        folder.mkdir(parents=True)
        error = ERRORS[flags["--activation"], int(flags["--seed"])]
        result = {"epochs": int(flags["--epochs"]), "test": {"accuracy": 1 - error}}
        environment = {"commit": "c", "processor": "p", "cores": 2, "versions": {}}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "environment.json").write_text(json.dumps(environment))
        (folder / "history.csv").write_text("epoch\n0\n")
        return types.SimpleNamespace(returncode=0)

    (tmp_path / "results").mkdir()
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(subprocess, "run", train)
    own = ["cifar_networks.py", "--runs", str(tmp_path / "runs"), "--manual_dir", "somewhere"]
    monkeypatch.setattr(sys, "argv", [*own, "--networks", "alexnet_cifar", "elu_cifar_18"])
    return given


def test_epochs_cost_what_is_allowed(table):
    # 6 x 12,298,240 x 50,000 is 3.69e12 for an epoch.
    assert table.epochs("alexnet_cifar", "cifar10", 0.5, []) == 135
    assert table.epochs("alexnet_cifar", "cifar10", 0.5, ["alexnet_cifar"]) == 140
    assert table.epochs("fractional_max_pooling", "cifar10", 0.5, []) == 0
    for name in table.NETWORKS:
        count = table.epochs(name, "cifar100", 3.0, [])
        assert table.cost(name, "cifar100", count) <= 3 < table.cost(name, "cifar100", count + 1)


def test_the_table_has_both_activations_and_then_the_better_one(table, commands, tmp_path):
    table.main()
    with (tmp_path / "results" / "cifar_networks.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [
        tuple(row[key] for key in ("network", "dataset", "activation", "error", "spread"))
        for row in rows
    ]
    assert found[:3] == [
        ("alexnet_cifar", "cifar10", "auto", "31.00", "1.41"),
        ("alexnet_cifar", "cifar10", "elu", "25.50", "0.71"),
        ("elu_cifar_18", "cifar10", "elu", "25.50", "0.71"),
    ]
    assert [row[:3] for row in found[3:]] == [
        ("alexnet_cifar", "cifar100", "elu"),
        ("elu_cifar_18", "cifar100", "elu"),
    ]
    assert rows[0]["published_error"] == "18.04"
    assert "somewhere" not in json.dumps(rows)
    assert rows[0]["command"].startswith("python trainers/cifar.py --network alexnet_cifar")
    assert len(commands) == 10


def test_what_is_there_is_not_trained_again(table, commands):
    table.main()
    commands.clear()
    table.main()
    assert not commands
