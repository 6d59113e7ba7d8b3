"""Searches as commands: what they refuse, what they write, and how they resume."""

import json
import os
import pathlib
import select
import shlex
import signal
import statistics
import subprocess
import sys

import matplotlib.image
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from keras_elu import data, training, tuning
from keras_elu.recipes import mnist
from keras_elu.tuning import oracles, outcomes, runners
from keras_elu.tuning.config import parse
from keras_elu.tuning.search import Search
from tests.processes import children, wait_until

ROOT = pathlib.Path(__file__).parents[2]
SPACES = {"learning_rate": tuning.learning_rate, "alpha": tuning.alpha}

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data.load("digits", data_dir=folder)
    return ["--dataset", "digits", "--data_dir", str(folder)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("")
    return tmp_path


def search(arguments, spaces=SPACES):
    return Search(mnist, spaces, *parse(mnist, arguments))


def refused(arguments, capsys):
    """The sentence that refuses a command."""
    with pytest.raises(SystemExit) as end:
        tuning.main(mnist, **SPACES, arguments=arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--objective val_f1", "must be val_loss or val_accuracy, not 'val_f1'"),
        ("--objective loss", "must be val_loss or val_accuracy"),
        ("--validation_examples 0", "which must not choose a schedule"),
        ("--strategy multiworker", "a search has --parallel_trials instead"),
        ("--evaluate full", "use it with the trainer instead"),
        ("--space alpha --activation relu", "only alpha of elu has a schedule"),
        ("--tuner hyperband --max_trials 2", "needs 90 trials for 50 epochs"),
        ("--parallel_trials 0", "--parallel_trials must be a whole number from 1"),
        ("--max_trials 0", "--max_trials must be a whole number from 1"),
        ("--executions_per_trial 0", "--executions_per_trial must be a whole number from 1"),
        ("--run_dir file", "is not a folder"),
        ("--run_dir file/search", "cannot be written"),
        ("--run_dir /proc/search", "cannot be written"),
        ("--run_dir full", "holds files that are not those of a search"),
    ],
)
def test_an_impossible_search_is_refused_and_nothing_is_written(
    flags, here, capsys, command, message
):
    before = sorted(here.rglob("*"))
    assert message in refused([*flags, *command.split()], capsys)
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_access_is_refused(flags, here, capsys):
    (here / "full").chmod(0o500)
    assert "full forbids it" in refused([*flags, "--run_dir", "full/search"], capsys)


def test_half_of_keras_tuners_environment_is_refused(flags, here, capsys, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert "KERASTUNER_ORACLE_IP is not: set all three" in refused(flags, capsys)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--space both", "another space, 'alpha' instead of 'both'"),
        ("--space alpha --tuner bayesian", "another tuner, 'random' instead of 'bayesian'"),
        ("--space alpha --objective val_accuracy", "another objective"),
        ("--space alpha --epochs 7", "another epochs, 50 instead of 7"),
        ("--space alpha --executions_per_trial 1", "another executions_per_trial, 5 instead of 1"),
        ("--space alpha --alpha 0.5", "another alpha, 1.0 instead of 0.5"),
    ],
)
def test_a_folder_of_another_search_is_refused_and_stays_as_it_is(
    flags, here, capsys, command, message
):
    search([*flags, "--space", "alpha", "--run_dir", "run"]).start()
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert message in refused([*flags, "--run_dir", "run", *command.split()], capsys)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_a_folder_of_other_ranges_is_refused(flags, here):
    def wider(hp, config):
        return tuning.alpha(hp, config, times=4)

    arguments = [*flags, "--space", "alpha", "--run_dir", "run"]
    search(arguments).start()
    with pytest.raises(ValueError, match="holds a search with other ranges"):
        search(arguments, SPACES | {"alpha": wider})


@pytest.mark.parametrize("there", [["trials/"], ["lock"], ["trials/", "unfinished-search.json"]])
def test_a_folder_that_another_process_of_the_search_has_just_made_is_not_refused(
    flags, here, there
):
    (here / "run").mkdir()
    for name in there:
        path = here / "run" / name
        path.mkdir() if name.endswith("/") else path.write_text("")
    search([*flags, "--run_dir", "run"]).start()
    assert (here / "run" / "search.json").exists()


def test_a_worker_leaves_the_folder_to_its_chief(flags, here, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    search([*flags, "--run_dir", "run"]).start()
    assert not (here / "run").exists()


def test_a_folder_in_use_is_refused(flags, here):
    first = search([*flags, "--run_dir", "run"])
    first.start()
    with pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on"):
        search([*flags, "--run_dir", "run"]).start()


def start(here, *arguments, script=(ROOT / "tuning" / "mnist.py",)):
    return subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(pid, seconds):
    """Whether a process, which need not be a child, ends in time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def events(folder):
    return event_accumulator.EventAccumulator(str(folder)).Reload()


def shown_by_hparams(folder):
    """What TensorBoard's HParams dashboard reads from a folder."""
    contents = events(folder).PluginTagToContent("hparams").values()
    return [plugin_data_pb2.HParamsPluginData.FromString(content) for content in contents]


@pytest.mark.slow
def test_a_stopped_search_resumes_and_keeps_the_best(flags, here, capsys):
    command = [*flags, "--epochs", 2, "--steps_per_epoch", 5, "--max_trials", 2, "--seed", 3]
    command += ["--executions_per_trial", 2, "--parallel_trials", 2, "--run_dir", "my run"]
    first = start(here, *command)
    trials = here / "my run" / "trials"
    wait_until(lambda: first.poll() is not None or list(trials.glob("*/config.json")), 300)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate()
    assert first.returncode == os.EX_TEMPFAIL, out + err
    assert "Stopped and saved. Run the same command to resume." in err
    again = start(here, *command)
    out, err = again.communicate()
    assert again.returncode == 0, out + err
    printed = shlex.split(out.splitlines()[-1])
    assert printed[:1] + printed[2:] == [sys.executable, "--config", "my run/best.json"]
    assert (here / printed[1]).resolve() == ROOT / "trainers" / "mnist.py"
    board = shlex.split(out.splitlines()[-3])
    assert board[1:] == ["-m", "tensorboard.main", "--logdir", "my run/trials"]
    tuning.main(mnist, **SPACES, arguments=[*map(str, command)])  # nothing is left to do
    assert "resuming after 2 of 2 trials" in capsys.readouterr().out
    found = outcomes.read_all(trials)
    assert list(found) == ["0", "1"]
    for trial, outcome in found.items():
        ends = [outcomes.curve(trials, f"{trial}{run}", "val_loss") for run in ("", "-2")]
        assert [len(curve) for curve in ends] == [2, 2]
        assert list(outcome.values) == [curve[-1] for curve in ends]
        assert outcome.value == pytest.approx(statistics.fmean(outcome.values))
        seeds = [outcomes.config(trials, f"{trial}{run}")["seed"] for run in ("", "-2")]
        assert seeds == [3, 4]
        results = [json.loads((trials / f"{trial}{r}/result.json").read_text()) for r in ("", "-2")]
        assert [result["test"] for result in results] == [{}, {}]  # no search may see the test set
        assert all(result["validation"]["accuracy"] > 0 for result in results)
    (experiment,) = shown_by_hparams(trials)
    assert {"alpha_knots", "learning_rate"} <= {h.name for h in experiment.experiment.hparam_infos}
    (metric,) = experiment.experiment.metric_infos
    for run, trial in {"0": "0", "0-2": "0", "1": "1", "1-2": "1"}.items():
        starts = [s.session_start_info for s in shown_by_hparams(trials / run / "tensorboard")]
        (start_info,) = [s for s in starts if s.group_name]  # the other is of the end
        assert start_info.group_name == trial
        scalars = events(trials / run / "tensorboard" / metric.name.group).Tags()["tensors"]
        assert metric.name.tag in scalars
    best = min(found, key=lambda trial: found[trial].value)
    held = json.loads((here / "my run" / "best.json").read_text())
    assert held == outcomes.config(trials, best)
    assert matplotlib.image.imread(here / "my run" / "schedules.png").std() > 0.05
    rows = (here / "my run" / "trials.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["0", "complete"], ["1", "complete"]]
    training.main(mnist, [*printed[2:], "--run_dir", "best"])
    assert (here / "best" / "result.json").exists()


def test_a_search_whose_trials_all_fail_ends_with_the_first_reason(
    flags, here, monkeypatch, capsys
):
    trial = here / "trial.py"
    trial.write_text("import sys; sys.exit('error: The loss of step 3 is not finite.')")
    monkeypatch.setattr(runners, "_TRIAL", trial)
    monkeypatch.setattr(oracles, "HEARTBEAT", 0.05)
    with pytest.raises(SystemExit) as end:
        tuning.main(mnist, **SPACES, arguments=[*flags, "--max_trials", "2", "--run_dir", "run"])
    assert end.value.code == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    reason = "error: no trial is complete: trial 0: The loss of step 3 is not finite."
    assert said.err.splitlines()[-1] == reason
    assert not (here / "run" / "best.json").exists()
    assert (here / "run" / "trials.csv").read_text().count("failed") == 2


@pytest.mark.slow
def test_a_trial_whose_loss_is_not_finite_fails_with_a_reason_that_the_search_prints(flags, here):
    command = [*flags, "--epochs", 1, "--space", "alpha", "--learning_rate", 1e9]
    process = start(here, *command, "--max_trials", 2, "--run_dir", "run")
    out, err = process.communicate()
    assert process.returncode == 1, out + err
    found = outcomes.read_all(here / "run" / "trials")
    assert [outcome.status for outcome in found.values()] == ["failed", "failed"]
    assert all("is not finite" in outcome.reason for outcome in found.values())
    assert err.splitlines()[-1].startswith("error: no trial is complete: trial 0: The loss of step")
    assert "Traceback" not in out + err
    assert not (here / "run" / "best.json").exists()


TRIAL = b"tuning/trial.py"  # in the command line of a trial


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_no_trial_outlives_a_dead_search_and_the_same_command_resumes(number, flags, here):
    command = [*flags, "--epochs", 2, "--steps_per_epoch", 5, "--max_trials", 2]
    command += ["--executions_per_trial", 1, "--parallel_trials", 2, "--run_dir", "run"]
    first = start(here, *command)
    wait_until(lambda: first.poll() is not None or len(children(first.pid, TRIAL)) == 2, 300)
    trials = children(first.pid, TRIAL)
    first.send_signal(number)
    first.communicate()
    assert [ended(pid, seconds=15) for pid in trials] == [True, True]
    again = start(here, *command)
    out, err = again.communicate()
    assert again.returncode == 0, out + err
    found = outcomes.read_all(here / "run" / "trials")
    assert [outcome.status for outcome in found.values()] == ["complete", "complete"]


@pytest.mark.slow
def test_a_hanging_trial_is_killed_after_the_stated_time_and_resumed(flags, here):
    """A real trial that is suspended, with half a minute instead of half an hour."""
    code = (
        "from keras_elu import tuning; from keras_elu.recipes import mnist; "
        "from keras_elu.tuning import runners; runners.SILENCE = 30; "
        "tuning.main(mnist, learning_rate=tuning.learning_rate, alpha=tuning.alpha)"
    )
    command = [*flags, "--epochs", 2, "--steps_per_epoch", 5, "--max_trials", 1]
    command += ["--executions_per_trial", 1, "--run_dir", "run"]
    process = start(here, *command, script=["-c", code])
    wait_until(lambda: process.poll() is not None or children(process.pid, TRIAL), 300)
    (pid,) = children(process.pid, TRIAL)
    os.kill(pid, signal.SIGSTOP)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert ended(pid, seconds=0)
    (outcome,) = outcomes.read_all(here / "run" / "trials").values()
    assert (outcome.status, outcome.epochs) == ("complete", 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("alone", 3), ("machines", 0)])
def test_searches_whose_processes_are_killed_lose_no_trial(kind, seed, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):  # as on machines of a company; no proxy listens
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    results = tmp_path / "results.json"
    flags = ["--kind", kind, "--searches", "1", "--trials", "2", "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.search_torture", *flags, "--results", results]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(results.read_text())
    assert (summary["searches"], summary["complete"]) == (1, 1)
    assert sum(value for key, value in summary.items() if key.startswith("kills of")) >= 1
