"""The files of docs/cluster are executed, and set a valid TF_CONFIG."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import textwrap

import pytest

from keras_elu import commands
from keras_elu.distributed import cluster

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "cluster"
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
    assert arguments[:3] == ["trainers/imagenet.py", "--strategy", "multiworker"]


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
