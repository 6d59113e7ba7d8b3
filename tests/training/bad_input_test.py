"""Bad command lines, files and folders: one sentence, exit code 2, and nothing is touched."""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import re
import shlex
import shutil
import socket
import stat

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_elu import training
from keras_elu.recipes import autoencoder, cifar, imagenet, imagenet_resnet, mnist
from keras_elu.training import command_line, fitting, store
from keras_elu.training.config import MAY_CHANGE, PLACES, recipe_name, resolve

RECIPES = {recipe_name(r): r for r in (autoencoder, cifar, imagenet, mnist, imagenet_resnet)}
LONG = "x" * 300
IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
IMAGENET = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@pytest.fixture(autouse=True)
def _no_network_and_no_training(monkeypatch):
    def refused(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(fitting, "fit", lambda *_: pytest.fail("the run began"))
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.fixture
def here(tmp_path):
    """A folder full of traps, in which the commands are given."""
    here = tmp_path / "here"
    files = {
        "file": "a file",
        "empty": None,
        "other/notes.txt": "of something else",
        "only/checkpoints": None,
        "repeat.json": '{"epochs": 3}',
        "none/config.json": "",
        "broken/config.json": '{"recipe": "mnist"',
        "list/config.json": "[]",
        "binary/config.json": b"\xff\xfe\0",
        "deep/config.json": "[" * 60_000,
        "long/config.json": '{"recipe": "' + "m" * 2**16 + '"}',
        "folder/config.json": None,
        "run/config.json": json.dumps(HELD),
        "run/history.csv": "epoch,loss\n0,1.5\n",
        "locked/config.json": json.dumps(HELD),
        "locked/lock": None,
        "cifar/cifar-10-batches-bin/data_batch_1.bin": b"\0" * 3073,
        "cifar/cifar-100-binary/train.bin": b"\0" * 3074,
        "cifar/cifar-10-binary.tar.gz": "not gzip",
        "cifar/cifar-100-binary.tar.gz": b"\x1f\x8b\x08\0",  # truncated
        "imagenette/imagenette2.tgz": "not gzip",
        **{f"small/{name}-ubyte.gz": "not gzip" for name in IDX},
        **{f"size/{name}-ubyte.gz": b"" for name in IDX},
        **{f"folders/{name}-ubyte.gz": None for name in IDX},
        f"part/{IDX[0]}-ubyte.gz": "not gzip",
        **{f"tar/{name}": "not a tar" for name in IMAGENET},
    }
    for name, content in files.items():
        path = here / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.truncate(here / "size" / f"{IDX[2]}-ubyte.gz", 1_648_877)
    (here / "dangling").symlink_to("nowhere")
    (here / "loop").symlink_to("loop")
    (here / "link").symlink_to("file")
    os.mkfifo(here / "fifo")
    return here


def held():
    """The config.json of a run of mnist on the digits."""
    settings = dataclasses.asdict(resolve(mnist, mnist.Config(dataset="digits")))
    for place in PLACES:
        del settings[place]
    return {"recipe": "mnist"} | settings


HELD = held()


def everything(folder):
    """All that is in a folder, with the times at which it was written."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[path] = (status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.fixture
def sentence(here, data_dir, capsys):
    """Gives a command, and returns the one sentence with which it must end."""

    def sentence(recipe, *arguments):
        for flag, value in {"--dataset": "digits", "--data_dir": str(data_dir)}.items():
            if not any(argument.partition("=")[0] == flag for argument in arguments):
                arguments += (flag, value)
        with contextlib.chdir(here), pytest.raises(SystemExit) as stop:
            training.main(RECIPES[recipe], arguments)
        shown = capsys.readouterr()
        assert stop.value.code == 2
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        assert shown.err == f"{line}\n"
        assert line.startswith("error: ")
        assert line.endswith(".")
        return line

    return sentence


@pytest.fixture
def refused(here, sentence):
    """As `sentence`, for a command that must leave everything as it was."""

    def refused(recipe, *arguments):
        before = everything(here)
        line = sentence(recipe, *arguments)
        assert everything(here) == before
        return line

    return refused


def one_sentence(line):
    return not re.search(r"[.!?]['\")]? [A-Z]|Traceback|[-─]{4}", line)


INTERVALS = (
    *("", "0", "00", "-1", "+1", "0s", "-1s", "1m", "1h", "1.5", "1.5s", "s", "ss", "60S"),
    *("60sec", "60 s", " 60", "60\n", "1e3", "1_000", "0x10", "²", "inf", "nan", "None", "sixty"),
)
# By command, what the sentence must have.
COMMANDS = {
    # Flags that there are not.
    "mnist --bogus": "--bogus",
    "cifar --bogus=1": "--bogus",
    "autoencoder bogus": "bogus",
    "imagenet ''": "Unrecognized",
    "mnist -x": "-x",
    "mnist -epochs 3": "-epochs",
    "mnist ---epochs 3": "---epochs",
    "mnist --Epochs 3": "--Epochs",
    "mnist --epoch 3": "--epoch",
    "mnist '--epochs 3'": "--epochs 3",
    "mnist --épochs 3": "--épochs",
    "mnist --epochs==3": "=3",
    "mnist --epochs 3 4": "4",
    "mnist --no_epochs": "--no_epochs",
    "mnist --lr 0.1": "--lr",
    "mnist @repeat.json": "@repeat.json",
    "mnist -- repeat.json": "repeat.json",
    "mnist --network elu_resnet": "--network",
    "autoencoder --width 1": "--width",
    "cifar --image_size 32": "--image_size",
    "imagenet --network elu_resnet": "--network",
    f"imagenet --{LONG} 1": "xxx",
    "mnist --tyro-print-completion klingon": "klingon",
    "mnist --tyro-write-completion bash nowhere/file": "nowhere/file",
    "mnist --tyro-write-completion bash empty": "empty",
    # Flags without their value.
    **{
        f"{recipe} --{field.name}": f"--{field.name}"
        for recipe, field in zip(
            list(RECIPES) * 10,
            [f for f in dataclasses.fields(training.Config) if f.type is not bool],
            strict=False,
        )
    },
    "cifar --network": "--network",
    "imagenet --width": "--width",
    "imagenet --image_size": "--image_size",
    "mnist --run_dir --epochs 3": "--run_dir",
    # Whole numbers.
    "mnist --epochs 0": "--epochs must be a whole number from 1 to 2147483647, not 0.",
    "mnist --epochs -1": "--epochs",
    "mnist --epochs 1.5": "--epochs",
    "mnist --epochs nan": "--epochs",
    "mnist --epochs inf": "--epochs",
    "mnist --epochs 1e3": "--epochs",
    "mnist --epochs 0x10": "--epochs",
    "mnist --epochs ''": "--epochs",
    "mnist --epochs ' '": "--epochs",
    "mnist --epochs three": "--epochs",
    "mnist --epochs ²": "--epochs",
    "mnist --epochs True": "--epochs",
    "mnist --epochs [3]": "--epochs",
    "mnist --epochs '3 4'": "--epochs",
    "mnist --epochs '[/bold]'": "--epochs",
    "mnist --epochs \x1b[31m": "--epochs",
    f"mnist --epochs {10**30}": "--epochs",
    f"mnist --epochs {10**400}": "--epochs",
    f"mnist --epochs {'9' * 5000}": "--epochs",
    "mnist --epochs 3 --epochs 0": "--epochs",
    "mnist --epochs 3 --epochs x": "--epochs",
    "autoencoder --batch_size 0": "--batch_size",
    "autoencoder --batch_size -64": "--batch_size",
    "autoencoder --batch_size 64.0": "--batch_size",
    f"autoencoder --batch_size {2**31}": "--batch_size",
    "autoencoder --batch_size 1238": "at most that",
    "imagenet --batch_size 5000 --steps_per_epoch 3": "5000",
    "imagenet --augmentation resized_crop": "digits has small images; use 'crop'",
    "imagenet --augmentation none": "--augmentation",
    "cifar --batch_size 1 --strategy mirrored": "--batch_size 1",
    "mnist --validation_examples 1400": "37 training",
    "mnist --validation_examples 1437": "hold out fewer",
    f"mnist --validation_examples {10**9}": "hold out fewer",
    "mnist --validation_examples -1": "--validation_examples must be a whole number from 0",
    "mnist --validation_examples 0.1": "--validation_examples",
    "mnist --validation_examples 10%": "--validation_examples",
    "cifar --steps_per_epoch 0": "--steps_per_epoch",
    "cifar --steps_per_epoch -1": "--steps_per_epoch",
    f"cifar --steps_per_epoch {10**400}": "--steps_per_epoch",
    f"imagenet --epochs {2**31 - 1} --steps_per_epoch 2": "steps",
    "imagenet --steps_per_execution 0": "--steps_per_execution",
    "imagenet --steps_per_execution auto": "--steps_per_execution",
    f"imagenet --steps_per_execution {10**30}": "--steps_per_execution",
    "mnist --micro_batches 0": "--micro_batches",
    "cifar --micro_batches -1": "--micro_batches",
    "imagenet --micro_batches 1.5": "--micro_batches",
    "autoencoder --micro_batches autos": "--micro_batches",
    "mnist --micro_batches AUTO": "--micro_batches",
    f"mnist --micro_batches {10**30}": "--micro_batches",
    "mnist --checkpoints_kept 0": "--checkpoints_kept",
    "cifar --checkpoints_kept -2": "--checkpoints_kept",
    "imagenet --checkpoints_kept all": "--checkpoints_kept",
    "mnist --recover -1": "--recover must be a whole number from 0",
    "cifar --recover inf": "--recover",
    f"imagenet --recover {10**30}": "--recover",
    "mnist --seed -1": "--seed",
    "mnist --seed 0.5": "--seed",
    f"mnist --seed {2**32}": "--seed",
    f"autoencoder --seed {2**70}": "--seed",
    "cifar --seed random": "--seed",
    "mnist --virtual_devices 0": "--virtual_devices",
    "mnist --virtual_devices -2": "--virtual_devices",
    "mnist --virtual_devices 3": "comes too late",
    "imagenet --virtual_devices 1": "comes too late",
    "mnist --virtual_devices 1025": "--virtual_devices must be a whole number from 1 to 1024",
    f"mnist --virtual_devices {10**30}": "--virtual_devices",
    "imagenet --image_size 0": "--image_size",
    "imagenet --mixup 1": "--mixup",
    "imagenet_resnet --mixup -1": "--mixup must be a number from 0 to 100, not -1.0.",
    "imagenet_resnet --cutmix nan": "--cutmix must be a number from 0 to 100",
    "imagenet_resnet --erasing 1.5": "--erasing must be a number from 0 to 1, not 1.5.",
    "imagenet_resnet --label_smoothing 1": "--label_smoothing must be a number from 0 to 0.999",
    "imagenet_resnet --erasing 0.5": "digits has small images; use 0.",
    "imagenet_resnet --augmentation trivial": "digits has small images; use 'crop'",
    "imagenet_resnet --first_size 64": "images grow during training, so raise --last_size.",
    "imagenet_resnet --last_size 0": "--last_size",
    "mnist --evaluate": "--evaluate",
    "mnist --evaluate nowhere": "nowhere is not the folder of a run, nor a checkpoint",
    "mnist --evaluate empty": "empty holds neither a model.keras nor a checkpoint.",
    "mnist --evaluate file": "is not the folder of a run",
    "mnist --evaluate fifo": "is not the folder of a run",
    "mnist --evaluate broken": "config.json",
    "imagenet --image_size -32": "--image_size",
    "imagenet --image_size 32x32": "--image_size",
    f"imagenet --image_size {10**30}": "--image_size",
    # Other numbers.
    "mnist --learning_rate 0": "--learning_rate must be a positive number",
    "mnist --learning_rate -0.0": "--learning_rate",
    "mnist --learning_rate -1": "--learning_rate",
    "mnist --learning_rate nan": "--learning_rate",
    "mnist --learning_rate -inf": "--learning_rate",
    "mnist --learning_rate 1e400": "--learning_rate",
    "mnist --learning_rate 1e39": "the range of float32, not 1e+39.",
    "mnist --learning_rate 1e-39": "--learning_rate",
    "mnist --learning_rate 1e-400": "--learning_rate",
    "mnist --learning_rate 0,1": "--learning_rate",
    "mnist --learning_rate ''": "--learning_rate",
    "mnist --learning_rate fast": "--learning_rate",
    "mnist --learning_rate 1e": "--learning_rate",
    "mnist --learning_rate 0.1 0.2": "0.2",
    "cifar --alpha 0": "--alpha",
    "cifar --alpha -1": "--alpha",
    "cifar --alpha NaN": "--alpha",
    "cifar --alpha inf": "--alpha",
    "cifar --alpha 1e300": "--alpha",
    "cifar --alpha 1e-300": "--alpha",
    "cifar --alpha None": "--alpha",
    "cifar --alpha é": "--alpha",
    "mnist --learning_rate_warmup 1": "--learning_rate_warmup must be a number from 0 to 0.999",
    "mnist --learning_rate_warmup -0.1": "--learning_rate_warmup",
    "mnist --learning_rate_warmup nan": "--learning_rate_warmup",
    "cifar --learning_rate_schedule step": "step",
    "cifar --learning_rate_end 0.1": "it is for cosine and one_cycle",
    "mnist --learning_rate_schedule cosine --learning_rate_end 2": "from 0 to 1, not 2.0",
    "mnist --learning_rate_schedule knots": "needs --learning_rate_knots",
    "mnist --learning_rate_knots 1,0": "--learning_rate_schedule constant",
    "mnist --learning_rate_schedule knots --learning_rate_knots 1": "--learning_rate_knots",
    "mnist --learning_rate_schedule knots --learning_rate_knots 1,": "--learning_rate_knots",
    "mnist --learning_rate_schedule knots --learning_rate_knots 1,nan": "--learning_rate_knots",
    "mnist --learning_rate_schedule knots --learning_rate_knots 1,-1": "--learning_rate_knots",
    f"mnist --alpha_schedule knots --alpha_knots {'1,' * 100}1": "2 to 100 numbers",
    "mnist --alpha_schedule knots --alpha_knots 1,0": "from 0.001 to 1000",
    "mnist --alpha_schedule knots --alpha_knots 1,2,1 --epochs 1 --steps_per_epoch 1": "1 steps",
    "mnist --alpha_schedule linear --alpha_end 0": "--alpha_end",
    "mnist --alpha_schedule linear --alpha_end 1001": "--alpha_end",
    "mnist --alpha_schedule linear --alpha_until 0": "--alpha_until",
    "mnist --alpha_schedule linear --alpha_until 1.5": "--alpha_until",
    "mnist --alpha_end 2": "--alpha_end has no meaning for --alpha_schedule constant",
    "mnist --alpha_schedule knots": "needs --alpha_knots",
    "mnist --alpha_schedule linear --activation relu": "relu",
    "mnist --alpha_schedule linear --activation parametric_elu": "parametric_elu",
    "imagenet --alpha_schedule linear --alpha 1e38 --alpha_end 100": "--alpha",
    "imagenet --width 0": "--width",
    "imagenet --width -0.5": "--width",
    "imagenet --width nan": "--width",
    "imagenet --width 1e400": "--width",
    "imagenet --width half": "--width",
    # What has no alpha.
    **{
        f"{recipe} --activation {name} --alpha 0.5": name
        for recipe, name in zip(
            list(RECIPES) * 2,
            ("shifted_relu", "relu", "leaky_relu", "celu", "gelu", "selu", "silu"),
            strict=False,
        )
    },
    # Names that do not exist.
    "mnist --activation elo": "elo",
    "mnist --activation ELU": "ELU",
    "mnist --activation 'elu '": "elu",
    "cifar --activation ''": "--activation",
    "cifar --activation softmax": "softmax",
    "imagenet --activation élu": "élu",
    "autoencoder --activation relu,elu": "relu,elu",
    "autoencoder --activation keras.layers.ReLU": "keras.layers.ReLU",
    "mnist --strategy mirror": "mirror",
    "mnist --strategy Mirrored": "Mirrored",
    "mnist --strategy ''": "--strategy",
    "mnist --strategy multiworker": "TF_CONFIG",
    "cifar --precision float16": "float16",
    "cifar --precision ''": "--precision",
    "imagenet --jit_compile yes": "yes",
    "imagenet --jit_compile True": "True",
    "cifar --network resnet": "resnet",
    "cifar --network ELU_RESNET": "ELU_RESNET",
    "cifar --network ''": "--network",
    "mnist --dataset mnits": "did you mean 'mnist'?",
    "mnist --dataset MNIST": "MNIST",
    "mnist --dataset ''": "--dataset",
    "mnist --dataset ../mnist": "../mnist",
    "mnist --dataset mnist/": "mnist/",
    "mnist --dataset mnist/x": "mnist/x",
    "mnist --dataset mnist/a=b": "mnist/a=b",
    "mnist --dataset mnist/data_dir=x": "mnist/data_dir=x",
    "mnist --dataset mnist/version=1": "mnist/version=1",
    "mnist --dataset mnist:x": "mnist:x",
    "mnist --dataset mnist:9.9.9": "9.9.9",
    "mnist --dataset digits/x": "digits/x",
    "cifar --dataset cifar10,cifar100": "cifar10,cifar100",
    "cifar --dataset coco": "not an image-classification set",
    "imagenet --dataset imagenet2012/x": "imagenet2012/x",
    "imagenet --dataset é": "é",
    f"imagenet --dataset {'x' * 5000}": "xxx",
    # How often to save.
    **{
        f"{recipe} --checkpoint_every={shlex.quote(text)}": "--checkpoint_every must be "
        for recipe, text in zip(list(RECIPES) * 10, INTERVALS, strict=False)
    },
    # Configurations that are not there.
    "mnist --config nowhere.json": "nowhere.json: the file cannot be read",
    "mnist --config empty": "Is a directory",
    "mnist --config ''": "--config must be text",
    "mnist --config file": "is not JSON",
    "mnist --config file/config.json": "Not a directory",
    "mnist --config dangling": "dangling",
    "mnist --config loop": "loop",
    f"mnist --config {LONG}": "File name too long",
    "mnist --config a\0b": "--config must be text",
    "mnist --config /dev/null": "is not JSON",
    "mnist --config /dev/zero": "longer than a config.json",
    "mnist --config long/config.json": "longer than a config.json",
    "mnist --config deep/config.json": "is not JSON",
    "mnist --config repeat.json --config nowhere.json": "nowhere.json",
    "mnist --micro_batches some": "must be a whole number or auto, not 'some'",
    "mnist --config repeat.json --epochs 0": "--epochs",
    # Folders that cannot be those of a run.
    "mnist --run_dir ''": "--run_dir must be text",
    "mnist --run_dir .": "--run_dir . holds files, but not those of a run",
    "mnist --run_dir ..": "holds files",
    "mnist --run_dir /": "holds files",
    "mnist --run_dir file": "is not a folder",
    "mnist --run_dir link": "is not a folder",
    "mnist --run_dir fifo": "is not a folder",
    "mnist --run_dir /dev/null": "is not a folder",
    "mnist --run_dir file/run": "cannot be written",
    "mnist --run_dir link/run/run": "cannot be written",
    "mnist --run_dir dangling": "cannot be written",
    "mnist --run_dir dangling/run": "cannot be written",
    "mnist --run_dir loop": "cannot be written",
    "mnist --run_dir loop/run": "cannot be written",
    "mnist --run_dir /proc/run": "cannot be written",
    "mnist --run_dir /dev/null/run": "cannot be written",
    f"mnist --run_dir {LONG}": "File name too long",
    f"mnist --run_dir {LONG}/run": "File name too long",
    f"mnist --run_dir new/{LONG}": "File name too long",
    f"mnist --run_dir empty/new/{LONG}/run": "File name too long",
    f"mnist --run_dir {'new/' * 2000}": "File name too long",
    "mnist --run_dir a\0b": "--run_dir must be text",
    "mnist --run_dir a\ud800b": "--run_dir must be text",
    "cifar --run_dir other": "holds files",
    "cifar --run_dir only": "holds files",
    "cifar --run_dir none": "holds files",
    "cifar --run_dir broken": "holds files",
    "cifar --run_dir list": "holds files",
    "cifar --run_dir binary": "holds files",
    "cifar --run_dir deep": "holds files",
    "cifar --run_dir long": "holds files",
    "cifar --run_dir folder": "holds files",
    "cifar --run_dir empty/../other": "holds files",
    "cifar --run_dir nowhere/../other": "holds files",
    "mnist --run_dir locked": "cannot be written",
    # The folder of another run.
    **{f"{recipe} --run_dir run": "another " for recipe in RECIPES if recipe != "mnist"},
    "mnist --run_dir run --epochs 49": "another epochs, 50 instead of 49",
    "mnist --run_dir run --batch_size 63": "another batch_size",
    "mnist --run_dir run --learning_rate 0.031": "another learning_rate",
    "mnist --run_dir run --activation selu": "another activation",
    "mnist --run_dir run --alpha 1.5": "another alpha",
    "mnist --run_dir run --precision mixed_bfloat16": "another precision",
    "mnist --run_dir run --seed 1": "another seed",
    "mnist --run_dir run --steps_per_epoch 3": "another steps_per_epoch, None instead of 3",
    "mnist --run_dir run --validation_examples 100": "another validation_examples",
    "mnist --run_dir run --dataset synthetic": "another ",
    "mnist --run_dir empty/../run --seed 1": "another seed",
    "mnist --run_dir nowhere/../run --seed 1": "another seed",
    # Data that is not there.
    "mnist --dataset mnist --data_dir empty": "cannot be reached",
    "mnist --dataset mnist --data_dir nowhere": "cannot be reached",
    "imagenet --dataset imagenet2012 --data_dir empty": "its licence",
    "cifar --dataset cifar10 --data_dir empty": "cannot be reached",
    "mnist --data_dir ''": "--data_dir must be text",
    "mnist --data_dir a\0b": "--data_dir must be text",
    "mnist --data_dir file": "data_dir file is not a folder",
    "mnist --data_dir link": "data_dir link is not a folder",
    "mnist --data_dir file/data": "Not a directory",
    "mnist --data_dir dangling": "cannot be prepared",
    "mnist --data_dir loop/data": "cannot be prepared",
    "mnist --data_dir /proc/data": "cannot be prepared",
    "mnist --data_dir ~nobody_has_this_name": "home directory",
    f"mnist --data_dir {LONG}": "File name too long",
    # Archives that are not there, or are not the original ones.
    "mnist --dataset mnist --data_dir empty --manual_dir ''": "--manual_dir must be text",
    "mnist --dataset mnist --data_dir empty --manual_dir a\0b": "--manual_dir must be text",
    "mnist --dataset mnist --data_dir empty --manual_dir nowhere": "is not a folder",
    "mnist --dataset mnist --data_dir empty --manual_dir file": "is not a folder",
    "mnist --dataset mnist --data_dir empty --manual_dir file/x": "is not a folder",
    "mnist --dataset mnist --data_dir empty --manual_dir dangling": "is not a folder",
    "mnist --dataset mnist --data_dir empty --manual_dir fifo": "is not a folder",
    "mnist --dataset mnist --data_dir empty --manual_dir ~nobody_has_this_name": "home directory",
    f"mnist --dataset mnist --data_dir empty --manual_dir {LONG}": "File name too long",
    "mnist --dataset mnist --data_dir empty --manual_dir empty": "holds train-images",
    "mnist --dataset mnist --data_dir empty --manual_dir part": "holds train-images",
    "mnist --dataset mnist --data_dir empty --manual_dir folders": "holds train-images",
    "mnist --dataset mnist --data_dir empty --manual_dir small": "not the original archive",
    "mnist --dataset mnist --data_dir empty --manual_dir size": "not the original archive",
    "mnist --dataset fashion_mnist --data_dir empty --manual_dir size": "not the original archive",
    "cifar --dataset cifar10 --data_dir empty --manual_dir cifar": "not the published file",
    "cifar --dataset cifar100 --data_dir empty --manual_dir cifar": "not the published file",
    "cifar --dataset cifar10 --data_dir empty --manual_dir empty": "holds cifar-10-binary",
    "cifar --dataset imagenette --data_dir empty --manual_dir imagenette": "not the original",
    "imagenet --dataset imagenet2012 --data_dir empty --manual_dir tar": "not the original",
    "imagenet --dataset imagenet2012 --data_dir empty --manual_dir empty": "holds ILSVRC2012",
    "cifar --dataset oxford_flowers102 --data_dir empty --manual_dir empty": "102flowers.tgz",
}


@pytest.mark.parametrize(
    ("command", "said"), COMMANDS.items(), ids=[command[:80] for command in COMMANDS]
)
def test_a_bad_command_gets_one_sentence_and_nothing_is_touched(command, said, refused):
    line = refused(*shlex.split(command))
    assert said in line
    assert one_sentence(line)


# By the content of a config.json for mnist, what the sentence must have.
FILES = {
    "": "is not JSON",
    " ": "is not JSON",
    "{": "is not JSON",
    "{}x": "is not JSON",
    "{}{}": "is not JSON",
    "epochs: 3": "is not JSON",
    "{'epochs': 3}": "is not JSON",
    '{"epochs": 3,}': "is not JSON",
    '{"epochs": 03}': "is not JSON",
    '{"epochs": 3} // three': "is not JSON",
    '\ufeff{"epochs": 3}': "is not JSON",
    f'{{"epochs": {"9" * 5000}}}': "is not JSON",
    '{"epochs":' * 6000: "is not JSON",
    b"\xff\xfe\0": "is not JSON",
    b'{"dataset": "\xe9"}': "is not JSON",
    b"\0" * 100: "is not JSON",
    bytes(range(256)): "is not JSON",
    '{"epochs": 3}'.encode("utf-16"): "is not JSON",
    f'{{"dataset": "{"x" * 2**16}"}}': "longer than a config.json",
    b"\0" * 2**17: "longer than a config.json",
    "null": "JSON object",
    "3": "JSON object",
    '"mnist"': "JSON object",
    "[]": "JSON object",
    '[{"epochs": 3}]': "JSON object",
    '{"epoch": 3}': "'epoch'",
    '{"Epochs": 3}': "'Epochs'",
    '{"--epochs": 3}': "'--epochs'",
    '{"epochs=3 --seed": 1}': "'epochs=3 --seed'",
    '{"": 1}': "''",
    '{"\\n": 1}': r"'\n'",
    '{"\\ud800": 1}': r"'\ud800'",
    '{"é": 1}': "'é'",
    '{"help": true}': "'help'",
    '{"run_dir": "run"}': "'run_dir'",
    '{"config": "config.json"}': "'config'",
    '{"network": "elu_resnet"}': "'network'",
    '{"width": 1}': "'width'",
    '{"recipe": "cifar"}': "the recipe 'cifar', not 'mnist'",
    '{"recipe": "Mnist"}': "the recipe 'Mnist'",
    '{"recipe": null}': "the recipe None",
    '{"recipe": ["mnist"]}': "the recipe ['mnist']",
    '{"epochs": 0}': "--epochs must be",
    '{"epochs": -1}': "--epochs must be",
    '{"epochs": 1.5}': "--epochs",
    '{"epochs": 3.0}': "--epochs",
    '{"epochs": "many"}': "--epochs",
    '{"epochs": ""}': "--epochs",
    '{"epochs": "3 --seed 4"}': "--epochs",
    '{"epochs": true}': "epochs is a bool",
    '{"epochs": false}': "epochs is a bool",
    '{"epochs": [3]}': "epochs is a list",
    '{"epochs": {"value": 3}}': "epochs is a dict",
    '{"epochs": NaN}': "--epochs",
    '{"epochs": 1e400}': "--epochs",
    f'{{"epochs": {10**400}}}': "--epochs",
    '{"alpha": null}': "--alpha",
    '{"alpha": NaN}': "--alpha must be",
    '{"alpha": 0}': "--alpha must be",
    '{"alpha": 2, "activation": "relu"}': "--alpha 2.0 has no meaning",
    '{"learning_rate": -Infinity}': "--learning_rate must be",
    '{"activation": null}': "None",
    '{"activation": "elo"}': "'elo'",
    '{"strategy": null}': "--strategy",
    '{"precision": "float8"}': "float8",
    '{"jit_compile": true}': "jit_compile is a bool",
    '{"micro_batches": null}': "--micro_batches",
    '{"micro_batches": "autos"}': "--micro_batches",
    '{"checkpoint_every": null}': "--checkpoint_every",
    '{"checkpoint_every": 0}': "--checkpoint_every",
    '{"checkpoints_kept": 0}': "--checkpoints_kept",
    '{"recover": -1}': "--recover",
    '{"seed": null}': "--seed",
    f'{{"seed": {2**70}}}': "--seed must be",
    '{"virtual_devices": 0}': "--virtual_devices must be",
    '{"dataset": ""}': "--dataset must be",
    '{"data_dir": ["data"]}': "data_dir is a list",
    '{"data_dir": {}}': "data_dir is a dict",
    '{"data_dir": ""}': "--data_dir must be",
    '{"data_dir": "a\\u0000b"}': "--data_dir must be",
    '{"data_dir": "\\ud800"}': "--data_dir must be",
    '{"manual_dir": false}': "manual_dir is a bool",
}


@pytest.mark.parametrize(
    ("content", "said"), FILES.items(), ids=[ascii(content)[:80] for content in FILES]
)
def test_a_bad_config_file_gets_one_sentence_that_names_it(content, said, refused, here):
    (here / "file").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused("mnist", "--config", "file")
    assert line.startswith("error: --config file: ")
    assert said in line
    assert one_sentence(line)


CHANGES = {
    "recipe": "cifar",
    "dataset": "mnist",
    "precision": "mixed_float16",
    "activation": "parametric_elu",
    "alpha": float("nan"),
    "batch_size": "64",
    "learning_rate": 0.3,
    "epochs": [50],
    "steps_per_epoch": 3,
    "validation_examples": 0,
    "seed": None,
    "network": "elu_resnet",
}


@pytest.mark.parametrize("key", CHANGES)
def test_the_folder_of_another_run_is_refused(key, refused, here):
    (here / "run" / "config.json").write_text(json.dumps(HELD | {key: CHANGES[key]}))
    (here / "run" / "result.json").write_text("{}")
    line = refused("mnist", "--run_dir", "run")
    assert f"another {key}, {CHANGES[key]!r} instead of {HELD.get(key)!r}: name a new" in line
    assert one_sentence(line)


def test_the_folder_of_a_run_that_goes_on_elsewhere_is_refused(refused, here):
    with (here / "run" / "lock").open("w") as lock:
        lock.write("process 7 on another machine")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refused("mnist", "--run_dir", "run")
    assert "is in use by process 7 on another machine" in line
    assert one_sentence(line)


PREPARED = {
    "no info": lambda folder: (folder / "dataset_info.json").unlink(),
    "an empty info": lambda folder: (folder / "dataset_info.json").write_text(""),
    "a broken info": lambda folder: (folder / "dataset_info.json").write_text("{"),
    "an info that is not text": lambda folder: (folder / "dataset_info.json").write_bytes(b"\xff"),
    "another info": lambda folder: (folder / "dataset_info.json").write_text("[]"),
    "no images": lambda folder: images(folder).unlink(),
    "a file without images": lambda folder: images(folder).write_bytes(b""),
    "truncated images": lambda folder: os.truncate(images(folder), 10_000),
    "other bytes": lambda folder: images(folder).write_bytes(b"no images" * 1000),
}


def images(folder):
    (path,) = folder.glob("digits-train.tfrecord*")
    return path


@pytest.mark.parametrize("dataset", ["auto", "digits"])
@pytest.mark.parametrize("damage", PREPARED.values(), ids=PREPARED)
def test_a_damaged_data_set_gets_one_sentence(damage, dataset, refused, data_dir, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data_dir / "digits", copy / "digits")
    (folder,) = (copy / "digits").iterdir()
    damage(folder)
    line = refused("mnist", "--dataset", dataset, "--data_dir", str(copy))
    assert f"{copy}" in line
    assert one_sentence(line)


WORKERS = {
    "not JSON": "x",
    "not an object": "[]",
    "no cluster": '{"task": {"type": "worker", "index": 0}}',
    "no workers": '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
    "no port": '{"cluster": {"worker": ["here"]}, "task": {"type": "worker", "index": 0}}',
    "no such worker": '{"cluster": {"worker": ["here:1"]}, "task": {"type": "worker", "index": 1}}',
}


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_bad_workers_get_one_sentence(workers, refused, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", workers)
    line = refused("imagenet", "--strategy", "multiworker")
    assert "TF_CONFIG" in line
    assert one_sentence(line)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("flags", [["--epochs", "x"], ["--bogus"], ["--strategy", "x"], ["--seed"]])
def test_a_sentence_has_no_lines_of_a_box_whatever_stdout_can_show(flags, encoding, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(ValueError, match=flags[0]) as error:
        command_line.parse(mnist, flags)
    assert one_sentence(str(error.value))
    assert str(error.value).endswith("; --help lists the flags.")


# What hypothesis makes up. It is the same every time, and nothing of it is kept.
made_up = hypothesis.settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
recipes = st.sampled_from(sorted(RECIPES))
WHOLE = (
    *("virtual_devices", "batch_size", "micro_batches", "epochs", "steps_per_epoch", "seed"),
    *("steps_per_execution", "validation_examples", "checkpoints_kept", "recover"),
)
CHOICES = ("strategy", "jit_compile", "precision", "activation", "dataset")
words = st.text(min_size=1)


def is_number(kind, text):
    try:
        kind(text)
    except ValueError:
        return text in ("None", "auto")
    return True


@made_up
@hypothesis.given(
    recipes,
    st.sampled_from(WHOLE),
    st.integers(max_value=-1).map(str)
    | st.integers(min_value=2**32).map(str)
    | st.floats().map(repr)
    | words.filter(lambda text: not is_number(int, text)),
)
def test_no_whole_number_gets_one_sentence(refused, recipe, flag, text):
    assert f"--{flag}" in refused(recipe, f"--{flag}={text}")


@made_up
@hypothesis.given(
    recipes,
    st.sampled_from(["alpha", "learning_rate"]),
    st.floats(max_value=0).map(repr)
    | st.floats(min_value=1e39).map(repr)
    | words.filter(lambda text: not is_number(float, text)),
)
def test_no_positive_number_gets_one_sentence(refused, recipe, flag, text):
    assert f"--{flag}" in refused(recipe, f"--{flag}={text}")


@made_up
@hypothesis.given(recipes, st.sampled_from(CHOICES), words.map("not {}".format))
def test_a_name_that_there_is_not_gets_one_sentence(refused, recipe, flag, text):
    refused(recipe, f"--{flag}={text}")


@made_up
@hypothesis.given(recipes, words, st.lists(words, max_size=2))
def test_flags_that_there_are_not_get_one_sentence(refused, recipe, name, more):
    refused(recipe, f"--not_{name}", *more)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@made_up
@hypothesis.given(
    st.binary().map(lambda content: b"\xff" + content)
    | values.filter(lambda value: not isinstance(value, dict)).map(json.dumps).map(str.encode)
    | st.dictionaries(st.text().map("not {}".format), values, min_size=1)
    .map(json.dumps)
    .map(str.encode)
    | st.dictionaries(
        st.sampled_from(sorted(HELD.keys() - {"recipe", "deterministic"})),
        st.booleans() | st.lists(values) | st.dictionaries(st.text(), values),
        min_size=1,
    )
    .map(json.dumps)
    .map(str.encode),
)
def test_any_bad_config_file_gets_one_sentence(refused, here, content):
    (here / "file").write_bytes(content)
    assert refused("mnist", "--config", "file").startswith("error: --config file: the file")


@made_up
@hypothesis.given(st.sampled_from(sorted(HELD.keys() - MAY_CHANGE)), values)
def test_the_folder_of_any_other_run_is_refused(refused, here, key, value):
    hypothesis.assume(value != HELD[key])
    # A run of fewer epochs may be trained longer, and keeps the span of its schedules.
    hypothesis.assume(key not in ("epochs", "schedule_epochs") or type(value) is not int)
    (here / "run" / "config.json").write_text(json.dumps(HELD | {key: value}))
    assert f"another {key}, " in refused("mnist", "--run_dir", "run")


@pytest.mark.parametrize(
    ("form", "said"),
    [(store.FORMAT, "belongs to another network"), (store.FORMAT + 1, "another version")],
)
def test_checkpoints_that_the_run_cannot_use_are_refused_and_kept(
    form, said, refused, here, monkeypatch
):
    folder = here / "run" / "checkpoints"
    inputs = keras.Input((2,))
    model = training.DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    with monkeypatch.context() as other:
        other.setattr(store, "FORMAT", form)
        checkpoints = training.Checkpoints(folder, every="1")
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[checkpoints])
        checkpoints.close()
    assert said in refused("mnist", "--run_dir", "run")
