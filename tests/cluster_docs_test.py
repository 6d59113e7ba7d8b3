"""The Dockerfile and the files of docs/cluster: what they set, install and start is valid."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import textwrap
import venv

import pytest
import yaml

from keras_elu import commands
from keras_elu.distributed import cluster
from keras_elu.recipes import imagenet, imagenet_resnet
from keras_elu.training import command_line

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs" / "cluster"
RECIPES = {"trainers/imagenet.py": imagenet, "trainers/imagenet_resnet.py": imagenet_resnet}
SHOW = '#!/bin/bash\nprintf "%s\\n" "$TF_CONFIG" "$@"\n'


def programs(folder, **scripts):
    """A PATH on which the named programs come first."""
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def bash(*command, cwd, **environment):
    done = subprocess.run(
        ["bash", *map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def field(text, name):
    (value,) = re.findall(rf"^\s*(?:- )?{name}: *([^#\n]*?) *(?:#.*)?$", text, flags=re.MULTILINE)
    return value


@pytest.mark.parametrize("index", [0, 1])
def test_the_job_for_kubernetes_gives_every_pod_the_addresses_of_all(index, tmp_path, monkeypatch):
    _, job = (DOCS / "kubernetes.yaml").read_text().split("\n---\n")
    (command,) = re.findall(r"command:\n +- bash\n +- -c\n +- \|\n((?: {14}.*\n)+)", job)
    path = programs(tmp_path / "bin", python=SHOW)
    text, *arguments = bash(
        "-c",
        textwrap.dedent(command),
        cwd=tmp_path,
        PATH=path,
        WORKERS=field(job, "completions"),
        JOB_COMPLETION_INDEX=str(index),
    )
    monkeypatch.setenv("TF_CONFIG", text)
    made = cluster.read()
    assert made == cluster.Cluster(("elu-0.elu:2222", "elu-1.elu:2222"), index)
    config = accepted(arguments)
    assert config.strategy == "multiworker"
    folders = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert {config.data_dir, str(pathlib.Path(config.run_dir).parent)} <= folders


def accepted(words):
    """The Config of a trainer's command line, whose flags must be right."""
    script, *flags = words
    return command_line.parse(RECIPES[script], flags)


def pod():
    _, job = yaml.safe_load_all((DOCS / "kubernetes.yaml").read_text())
    return job["spec"]["template"]["spec"]


def container():
    (only,) = pod()["containers"]
    return only


def test_the_pods_ask_for_gpus_shared_memory_and_data():
    limits = container()["resources"]["limits"]
    assert limits["nvidia.com/gpu"] > 0  # the request is the same; another one is refused
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["shared-memory"]["mountPath"] == "/dev/shm"
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    assert mounts["data"]["readOnly"]


def test_the_pods_run_as_the_user_of_the_image():
    (added,) = re.findall(r"useradd --uid (\d+) .*?(\w+) &&", " ".join(dockerfile()["RUN"]))
    assert pod()["securityContext"]["runAsNonRoot"]
    assert str(pod()["securityContext"]["runAsUser"]) == added[0]
    assert dockerfile()["USER"] == [added[1]]
    assert list(dockerfile())[-2:] == ["USER", "CMD"]  # nothing is installed as this user
    image = container()["image"]
    assert f"docker build --tag {image} ." in (ROOT / "Dockerfile").read_text()
    assert f"docker build --tag {image} ." in (DOCS / "kubernetes.yaml").read_text()


def test_the_pods_for_kubernetes_have_the_names_in_these_addresses():
    service, job = (DOCS / "kubernetes.yaml").read_text().split("\n---\n")
    assert field(service, "kind") == "Service"
    assert (field(job, "kind"), field(job, "completionMode")) == ("Job", "Indexed")
    name = re.search(r"^  name: (.*)$", job, flags=re.MULTILINE)[1]  # pods are called NAME-INDEX
    assert name == re.search(r"^  name: (.*)$", service, flags=re.MULTILINE)[1]
    assert name == field(job, "subdomain") == field(service, "job-name")
    assert f'"{name}-%g.{name}:2222"' in job
    workers = field(job, "value").strip('"')
    assert workers == field(job, "completions") == field(job, "parallelism")


def rules():
    """The rules of the podFailurePolicy, in their order: action, and exit codes or conditions."""
    _, job = (DOCS / "kubernetes.yaml").read_text().split("\n---\n")
    (block,) = re.findall(r"podFailurePolicy:.*\n +rules:\n((?: {6}.*\n)+)", job)
    for rule in re.split(r"^ {6}- ", block, flags=re.MULTILINE)[1:]:
        codes = re.search(r"onExitCodes: \{operator: In, values: \[(.*)\]\}", rule)
        conditions = re.findall(r"- type: (\w+)", rule)
        yield (
            re.match(r"action: (\w+)", rule)[1],
            {int(code) for code in codes[1].split(",")} if codes else set(conditions),
        )


# Exit code and conditions of a pod, and the effect of its failure on the job.
PODS = {
    "a wrong command line": (2, set(), "FailJob"),
    "a worker that saved because another pod was evicted": (commands.RESUMABLE, set(), "Ignore"),
    "an evicted pod that saved": (commands.RESUMABLE, {"DisruptionTarget"}, "Ignore"),
    "an evicted pod that was killed": (137, {"DisruptionTarget"}, "Ignore"),
    "a worker out of memory": (137, set(), "Count"),
    "a failed run": (1, set(), "Count"),
}


@pytest.mark.parametrize(("code", "conditions", "effect"), PODS.values(), ids=PODS)
def test_a_drained_node_does_not_use_up_the_retries(code, conditions, effect):
    """As https://kubernetes.io/docs/tasks/job/pod-failure-policy describes the rules."""
    found = [action for action, values in rules() if values & ({code} | conditions)]
    assert next(iter(found), "Count") == effect
    _, job = (DOCS / "kubernetes.yaml").read_text().split("\n---\n")
    assert field(job, "restartPolicy") == "Never"


SRUN = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for SLURM_PROCID in 0 1 2; do export SLURM_PROCID; "$@"; done
"""
SCONTROL = r"""#!/bin/bash
[[ "$*" == "show hostnames node[1-2,7]" ]] && printf '%s\n' node1 node2 node7
"""


def test_the_script_for_slurm_gives_every_task_the_addresses_of_all(tmp_path, monkeypatch):
    path = programs(tmp_path / "bin", srun=SRUN, scontrol=SCONTROL)
    programs(tmp_path / ".venv")
    programs(tmp_path / ".venv" / "bin", python=SHOW)
    shutil.copy(DOCS / "slurm.sh", tmp_path)
    flags = ["trainers/x.py", "--run_dir", "a folder"]
    lines = bash("slurm.sh", *flags, cwd=tmp_path, PATH=path, SLURM_JOB_NODELIST="node[1-2,7]")
    given = []
    for text in (line for line in lines if line.startswith("{")):
        assert json.loads(text)
        monkeypatch.setenv("TF_CONFIG", text)
        given.append(cluster.read())
    workers = ("node1:2222", "node2:2222", "node7:2222")
    assert given == [cluster.Cluster(workers, index) for index in range(3)]
    assert lines[1:6] == [*flags, "--strategy", "multiworker"]


def test_the_examples_of_the_script_for_slurm_are_accepted():
    text = (DOCS / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, flags=re.MULTILINE))
    assert int(options["gpus-per-node"]) > 0
    (example,) = re.findall(r"^#   (sbatch .*\\\n.*)\n", text, flags=re.MULTILINE)
    words = shlex.split(example.replace("\\\n#", ""))
    begin = words.index("docs/cluster/slurm.sh") + 1
    assert set(words[1 : begin - 1 : 2]) <= {f"--{name}" for name in options}
    accepted([*words[begin:], "--strategy", "multiworker"])


def dockerfile():
    """The instructions of the Dockerfile, and the arguments of each, in the order of the last."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line:
            name, arguments = line.split(maxsplit=1)
            found[name] = [*found.pop(name, []), arguments]
    return found


def installs():
    """The words of each `pip install` in the Dockerfile, after `python -m`."""
    for command in dockerfile()["RUN"]:
        if " pip install " in command:
            python, module, *words = shlex.split(command)
            assert (python, module) == ("python", "-m")
            yield words


def test_the_dockerfile_copies_what_there_is_and_starts_a_trainer():
    found = dockerfile()
    assert set(found) == {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}
    (image,) = found["FROM"]
    (minor,) = re.findall(r"^python:3\.(\d+)-slim$", image)
    assert f"Programming Language :: Python :: 3.{minor}" in (ROOT / "setup.py").read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in (name for copied in found["COPY"] for name in copied.split()[:-1]):
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    (start,) = found["CMD"]
    assert json.loads(start)[0] == "python"
    accepted(json.loads(start)[1:])
    (example,) = re.findall(r"^#     python (.*)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    accepted(shlex.split(example))


def test_the_dockerfile_installs_pinned_versions_only():
    first, second = installs()
    assert first[first.index("--constraint") + 1] == "requirements.lock"
    assert ".[cuda,tuning]" in first
    assert "--no-deps" in second
    pinned = re.findall(r"^(\S+)==\S+$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {"tensorflow", "keras", "nvidia-cudnn-cu12", "nvidia-nccl-cu12"} <= set(pinned)


@pytest.mark.slow
def test_the_dockerfile_installs_into_an_empty_environment(tmp_path):
    """Without CUDA, whose packages of several GB are only resolved."""
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    checkout = tmp_path / "checkout"
    checkout.mkdir()

    def run(*words):
        done = subprocess.run([python, *words], cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    copies = [copied.split() for copied in dockerfile()["COPY"]]
    first, second = installs()
    for name in copies[0][:-1]:
        shutil.copy(ROOT / name, checkout)
    report = tmp_path / "report.json"
    run("-m", *first, "--dry-run", "--ignore-installed", "--report", report)
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    for package in json.loads(report.read_text())["install"]:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        assert name == "keras_elu" or f"{name}=={version}" in locked
    run("-m", *(word.replace("cuda,", "") for word in first))
    for source, target in copies[1:]:
        shutil.copytree(ROOT / source, checkout / target)
    run("-m", *second)
    assert "--strategy" in run("trainers/imagenet.py", "--help")
