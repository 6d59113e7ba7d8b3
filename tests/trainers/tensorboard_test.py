"""The TensorBoard logs of a run that was killed and resumed, and what TensorBoard shows of them."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

EPOCHS, STEPS = 40, 15
LENGTH = ("--epochs", EPOCHS, "--steps_per_epoch", STEPS)
FLAGS = ("--dataset", "digits", *LENGTH, "--activation", "parametric_elu", "--run_dir", "run")
WATCHED = ("--histograms_every", 60, "--profile", "20:24", "--checkpoint_every", 7)

pytestmark = pytest.mark.xdist_group("tensorboard")


@pytest.fixture(scope="module")
def runs(start, tmp_path_factory):
    """The logs of an undisturbed run, and of one that was killed and resumed."""
    undisturbed, killed = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    other = start("mnist", *FLAGS, *WATCHED, "--steps_per_execution", 5, cwd=undisturbed)
    process = start("mnist", *FLAGS, *WATCHED, "--steps_per_execution", 4, cwd=killed)
    for line in process.stdout:  # far enough for the profile and a look into the layers
        if line.startswith("epoch 10/"):
            break
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it ended before it could be killed"
    assert list((killed / "run" / "checkpoints").glob("step-*.npz"))
    process = start("mnist", *FLAGS, *WATCHED, cwd=killed)
    for started in (process, other):
        output, _ = started.communicate()
        assert started.returncode == 0, output
    return undisturbed / "run" / "tensorboard", killed / "run" / "tensorboard"


def events(folder):
    """Steps and values by tag, in the order of writing."""
    read = event_accumulator.EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
    }


@pytest.mark.slow
def test_a_killed_run_logs_every_tag_once_per_step_and_equal_bit_for_bit(runs):
    undisturbed, killed = (
        {of: events(run / of) for of in ("", "train", "validation", "test")} for run in runs
    )
    last, train = EPOCHS * STEPS, killed["train"]
    assert all(
        [step for step, _ in held] == sorted({step for step, _ in held})
        for log in killed.values()
        for held in log.values()
    )
    alphas = [tag for tag in train if tag.startswith("alpha/")]
    assert len(alphas) == 8
    for tag in ("batch_loss", "learning_rate", *alphas):
        assert [step for step, _ in train[tag]] == list(range(1, last + 1))
    ends = list(range(STEPS, last + 1, STEPS))
    for log, tag in (("train", "epoch_loss"), ("validation", "epoch_accuracy")):
        assert [step for step, _ in killed[log][tag]] == ends
    looks = [tag for tag in train if tag.startswith(("saturated_share/", "gradients/"))]
    assert looks
    assert all([step for step, _ in train[tag]] == list(range(60, last + 1, 60)) for tag in looks)
    of_time = re.compile("speed/|.*(images_per_second|seconds)$|_hparams_|config")
    for log, held in undisturbed.items():
        assert killed[log].keys() == held.keys()
        for tag in (tag for tag in held if not of_time.match(tag)):
            pairs = zip(killed[log][tag], held[tag], strict=True)
            assert all(a == b and (x == y).all() for (a, x), (b, y) in pairs), tag
    assert {"speed/images_per_second", "speed/input_wait_share"} <= train.keys()


@pytest.mark.slow
def test_the_profile_is_where_its_plugin_looks_and_marks_the_steps(runs):
    for run in runs:
        held = b"".join(path.read_bytes() for path in run.glob("plugins/profile/*/*.xplane.pb"))
        assert b"step_num" in held
        assert b"train" in held


@contextlib.contextmanager
def served(folder):
    """The address of a running TensorBoard."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = next(line for line in process.stdout if "http://" in line)
        yield re.search(r"http://[^/]+", line)[0]
    finally:
        process.terminate()
        process.communicate()


def get(address, **parameters):
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)


@pytest.mark.slow
def test_tensorboard_shows_all_logs(runs):
    with served(runs[1].parent) as address:
        data = f"{address}/data/plugin"
        deadline = time.monotonic() + 60
        while True:  # it reads the files in the background
            tags = get(f"{data}/scalars/tags")
            if "test_accuracy" in tags.get("tensorboard/test", {}) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert "test_accuracy" in tags["tensorboard/test"]
        assert {"batch_loss", "learning_rate", "speed/images_per_second"} <= tags[
            "tensorboard/train"
        ].keys()
        assert tags["tensorboard/validation"].keys() == {"epoch_loss", "epoch_accuracy"}
        points = get(f"{data}/scalars/scalars", run="tensorboard/train", tag="batch_loss")
        assert points[-1][1] == EPOCHS * STEPS
        assert "gradients/logits/kernel" in get(f"{data}/histograms/tags")["tensorboard/train"]
        images = get(f"{data}/images/tags")["tensorboard"]
        assert images.keys() == {"batch", "confusion_matrix", "worst_mistakes"}
        assert get(f"{data}/text/tags")["tensorboard"] == ["config"]
        asked = {"experimentName": "", "colParams": [], "startIndex": 0, "sliceSize": 9}
        asked["allowedStatuses"] = ["STATUS_SUCCESS"]
        request = urllib.request.Request(
            f"{data}/hparams/session_groups",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            (group,) = json.load(answer)["sessionGroups"]
        assert group["hparams"]["activation"] == "parametric_elu"
        names = [value["name"]["tag"] for value in group["metricValues"]]
        assert "test_accuracy" in names
