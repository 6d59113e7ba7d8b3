"""What a search needs beyond the package itself, and the version of keras-tuner."""

import importlib
import pathlib
import runpy
import subprocess
import sys

import keras_tuner
import pytest

from keras_elu import tuning
from keras_elu.recipes import mnist
from keras_elu.tuning import tuner_internals

ROOT = pathlib.Path(__file__).parents[2]
SPACES = {"learning_rate": tuning.learning_rate, "alpha": tuning.alpha}
pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("module", ["keras_tuner", "scipy", "matplotlib"])
def test_a_missing_extra_is_named_in_one_sentence(module, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SystemExit) as end:
        tuning.main(mnist, **SPACES, arguments=["--dataset", "digits"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {module} is missing: pip install '.[tuning]' installs it.\n"
    assert not list(tmp_path.iterdir())


SCRIPTS = {
    "benchmarks/schedules.py": ("scipy", "tuning", ["mnist", "runs/none"]),
    "docs/figures.py": ("matplotlib", "plots", []),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_its_extra_ends_with_one_sentence(script, monkeypatch, capsys):
    module, extra, arguments = SCRIPTS[script]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    said = f"{end.value.code} {capsys.readouterr().err}"
    assert f"error: {module} is missing: pip install '.[{extra}]' installs it." in said


def test_the_scripts_import_and_help_without_the_extra(tmp_path):
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['keras_tuner', 'scipy', 'matplotlib']); "
        f"sys.argv[1:] = ['--help']; runpy.run_path({str(ROOT / 'tuning' / 'mnist.py')!r}, "
        "run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--parallel_trials" in done.stdout


@pytest.mark.parametrize("version", ["1.3.9", "1.5.0", "2.0"])
def test_another_keras_tuner_is_refused_in_one_sentence(version, monkeypatch):
    monkeypatch.setattr(keras_tuner, "__version__", version)
    with pytest.raises(ImportError, match=f"keras-tuner 1.4, not {version}: install") as refused:
        importlib.reload(tuner_internals)
    assert str(refused.value).endswith(".")
    monkeypatch.undo()
    importlib.reload(tuner_internals)
