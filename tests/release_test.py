"""The wheel installs into an empty environment and does what a user asks of it."""

import pathlib
import subprocess
import sys
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(*command, cwd):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the sdist, built from the files that git knows."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    tracked = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=source)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if name.startswith("keras_elu/")}
    tracked = run("git", "ls-files", "-co", "--exclude-standard", "keras_elu", cwd=ROOT).split()
    assert inside == {name for name in tracked if (ROOT / name).is_file()}
    assert "keras_elu/py.typed" in inside
    assert all(".dist-info/" in name for name in names - inside)
    assert len(list(dist.glob("*.tar.gz"))) == 1


@pytest.mark.slow
def test_a_user_installs_the_wheel_and_trains(dist, tmp_path):
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    lock = ROOT / "requirements.lock"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", lock, wheel, cwd=tmp_path)
    said = run(python, ROOT / "tests" / "user.py", cwd=tmp_path)
    assert said.startswith("keras_elu 0.")
    where = "import keras_elu; print(keras_elu.__file__)"
    assert str(tmp_path / "empty") in run(python, "-c", where, cwd=tmp_path)
