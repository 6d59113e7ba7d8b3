"""Shares of a machine's cores and accelerators, one for each trial that runs at a time."""

import dataclasses
import os

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of a machine that a trial may use.

    Args:
        cores: Numbers of its cores; None where the operating system cannot pin.
        environment: Environment variables of the trial's process.
    """

    cores: tuple[int, ...] | None
    environment: dict[str, str]


def shares(count: int) -> list[Share]:
    """Returns equal shares of the cores and accelerators of this process."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    total = len(cores) if cores else os.cpu_count() or 1
    gpus = _gpus()
    made = []
    for i in range(count):
        if count <= total:
            first, last = i * total // count, (i + 1) * total // count
        else:
            first, last = i % total, i % total + 1
        environment = {"TF_NUM_INTRAOP_THREADS": str(last - first)} if count > 1 else {}
        if gpus and count > 1:
            own = gpus[i * len(gpus) // count : (i + 1) * len(gpus) // count]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own or [gpus[i % len(gpus)]])
            if count > len(gpus):
                environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        made.append(Share(tuple(cores[first:last]) if cores else None, environment))
    return made


def _gpus() -> list[str]:
    """Returns the accelerators of this process, by their names in CUDA_VISIBLE_DEVICES."""
    count = len(tf.config.list_physical_devices("GPU"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]
