"""The command line: what it accepts, and one sentence for every error."""

import json
import sys

import pytest

from keras_elu import training
from keras_elu.recipes import autoencoder, cifar, imagenet, mnist
from keras_elu.training import command_line
from keras_elu.training.config import recipe_name
from keras_elu.tuning import config as tuning_config

RECIPES = (autoencoder, cifar, imagenet, mnist)


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_an_empty_command_line_is_the_default_config(recipe):
    assert command_line.parse(recipe, []) == recipe.Config()


def test_dashes_and_underscores_mean_the_same():
    flags = ["--batch-size", "8", "--learning_rate=0.5", "--steps-per-epoch=3"]
    config = command_line.parse(mnist, flags)
    assert config == mnist.Config(batch_size=8, learning_rate=0.5, steps_per_epoch=3)


def test_help_shows_every_flag_and_the_defaults_by_data_set(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.parse(imagenet, ["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for field in imagenet.Config.__dataclass_fields__:
        assert f"--{field}" in shown
    assert "imagenet2012: batch_size 256" in shown


def test_a_config_file_is_repeated_and_other_flags_override_it(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"recipe": "mnist", "epochs": 7, "alpha": 0.5, "data_dir": None}))
    config = command_line.parse(mnist, ["--config", str(file), "--alpha", "2"])
    assert config == mnist.Config(config=str(file), epochs=7, alpha=2.0)


FILES = {
    "not JSON": ("epochs: 3", "is not JSON"),
    "not an object": ("[3]", "JSON object"),
    "an unknown key": ('{"epoch": 3}', "'epoch'"),
    "a place": ('{"run_dir": "x"}', "'run_dir'"),
    "a wrong type": ('{"epochs": "many"}', "--epochs"),
    "a wrong choice": ('{"strategy": "mirror"}', "'mirror'"),
    "another recipe's": ('{"recipe": "cifar"}', "'cifar'"),
    "not text": (b"\xff\xfe\x00", "is not JSON"),
}


@pytest.mark.parametrize(("content", "said"), FILES.values(), ids=FILES)
def test_a_wrong_config_file_gets_one_sentence(content, said, tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="config") as error:
        command_line.parse(mnist, ["--config", str(file)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


BOXES = {
    "another width": "+ Error -+\n|  Unknown flag --bogus  |\n+---------+\n",
    "no box": "usage: mnist\nUnknown flag --bogus\n",
    "a title only": "Error\n",
    "nothing": "",
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_another_layout_of_tyros_errors_still_gives_one_sentence(box, monkeypatch, capsys):
    def refuse(*arguments, **keywords):
        print(box, end="", file=sys.stderr)
        raise SystemExit(2)

    monkeypatch.setattr(command_line.tyro, "cli", refuse)
    with pytest.raises(ValueError, match="--help lists the flags") as error:
        command_line.parse(mnist, ["--bogus"])
    what = "Unknown flag --bogus" if "--bogus" in box else "the command line is wrong"
    assert str(error.value) == f"{what}; --help lists the flags."
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "flag", ["data_dir", "manual_dir", "initial_weights", "run_dir", "config", "evaluate"]
)
def test_a_tilde_is_the_home_folder(flag, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").write_text('{"recipe": "mnist", "seed": 5}')
    for parsed in (
        command_line.parse(mnist, [f"--{flag}=~/a"]),
        tuning_config.parse(mnist, [f"--{flag}=~/a"])[flag == "run_dir"],
    ):
        assert getattr(parsed, flag) == str(tmp_path / "a")
        assert parsed.seed == (5 if flag == "config" else 0)
    with pytest.raises(ValueError, match=r"~nobody_has_this_name/a .* home directory is not known"):
        command_line.parse(mnist, [f"--{flag}=~nobody_has_this_name/a"])


def test_a_trainers_script_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text("from keras_elu.recipes import mnist")
    recipe, config = command_line.trainer(["~/own.py", "--dataset", "digits", "--seed", "3"])
    assert (recipe.__name__, config.seed) == ("keras_elu.recipes.mnist", 3)


BAD = {
    "an unknown flag": (["--bogus", "3"], "--bogus"),
    "an abbreviated flag": (["--epo", "3"], "--epo"),
    "a word": (["mnist"], "mnist"),
    "a flag without a value": (["--epochs"], "--epochs"),
    "an unknown data set": (["--dataset", "mnits"], "mnits"),
    "an unknown activation": (["--activation", "elo"], "elo"),
    "an unknown strategy": (["--strategy", "mirror"], "mirror"),
    "an unknown precision": (["--precision", "float8"], "float8"),
    "an unknown way to compile": (["--jit_compile", "yes"], "yes"),
    "alpha 0": (["--alpha", "0"], "--alpha"),
    "alpha negative": (["--alpha", "-1"], "--alpha"),
    "alpha NaN": (["--alpha", "nan"], "--alpha"),
    "alpha infinite": (["--alpha", "inf"], "--alpha"),
    "alpha None": (["--alpha", "None"], "--alpha"),
    "alpha a word": (["--alpha", "one"], "--alpha"),
    "alpha empty": (["--alpha", ""], "--alpha"),
    "alpha for an activation that has none": (["--alpha", "2", "--activation", "relu"], "relu"),
    "batch size 0": (["--batch_size", "0"], "--batch_size"),
    "a broken batch size": (["--batch_size", "3.5"], "--batch_size"),
    "a batch larger than the data set": (["--batch_size", "5000"], "5000"),
    "epochs 0": (["--epochs", "0"], "--epochs"),
    "steps 0": (["--steps_per_epoch", "0"], "--steps_per_epoch"),
    "learning rate 0": (["--learning_rate", "0"], "--learning_rate"),
    "learning rate NaN": (["--learning_rate", "nan"], "--learning_rate"),
    "no virtual device": (["--virtual_devices", "0"], "--virtual_devices"),
    "more virtual devices than the process has": (["--virtual_devices", "3"], "3"),
    "a negative seed": (["--seed", "-1"], "--seed"),
    "a seed above 32 bits": (["--seed", "4294967296"], "eed"),
    "all images held out": (["--validation_examples", "1797"], "1797"),
    "a replica without images": (["--batch_size", "1", "--strategy", "mirrored"], "--batch_size"),
    "no workers": (["--strategy", "multiworker"], "TF_CONFIG"),
    "no micro-batches": (["--micro_batches", "0"], "--micro_batches"),
    "micro-batches as a word": (["--micro_batches", "many"], "--micro_batches"),
    "a missing config file": (["--config", "none.json"], "none.json"),
    "a run folder that is a file": (["--run_dir", "taken"], "taken"),
    "a run folder below a file": (["--run_dir", "taken/run"], "taken"),
    "a run folder with other files": (["--run_dir", "."], "--run_dir"),
    "a run folder that cannot be made": (["--run_dir", "/proc/run"], "/proc/run"),
    "missing archives": (["--dataset", "mnist", "--manual_dir", "."], "mnist"),
    "a corrupt archive": (["--dataset", "mnist", "--manual_dir", "corrupt"], "mnist"),
    "image size 0": (["--image_size", "0"], "--image_size"),
    "width 0": (["--width", "0"], "--width"),
    "width NaN": (["--width", "nan"], "--width"),
}


@pytest.mark.parametrize(("flags", "said"), BAD.values(), ids=BAD)
def test_a_wrong_command_line_gets_one_sentence_and_nothing_is_made(
    flags, said, tmp_path, monkeypatch, capsys, data_dir
):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "corrupt").mkdir()
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / "corrupt" / f"{split}-{kind}-ubyte.gz").write_bytes(b"corrupt" * count)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    if "mnist" in flags:
        data_dir = tmp_path / "data"
    digits = [] if "--dataset" in flags else ["--dataset", "digits"]
    with pytest.raises(SystemExit) as stop:
        training.main(imagenet, [*digits, "--data_dir", str(data_dir), *flags])
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(tmp_path.rglob("*")) == before
