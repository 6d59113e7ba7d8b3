"""Where a result was obtained, in enough detail to obtain it again."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import keras

import keras_elu
from keras_elu import system

_PACKAGES = ("keras", "numpy", "tensorflow", "tensorflow-datasets", "jax", "torch")


def describe() -> dict[str, Any]:
    """Returns the command, commit, versions and devices of this process, ready for JSON."""
    return {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "arguments": [_short(sys.argv[0]), *sys.argv[1:]],
        "commit": _commit(),
        "versions": {"python": platform.python_version(), "keras_elu": keras_elu.__version__}
        | {name: version for name in _PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerators": system.query_gpus("name"),  # not every backend knows them
        "devices": keras.distribution.list_devices(),
    }


def append(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Appends a line of JSON to a file of results, and prints its path."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    print(f"Appended to {os.path.relpath(path)}.", flush=True)


def _short(script: str) -> str:
    """Returns the path of a script relative to the working directory, if it is below it."""
    path, here = pathlib.Path(script), pathlib.Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else script


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """Returns the commit of the checkout that holds this code, if there is one."""
    checkout = pathlib.Path(keras_elu.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
