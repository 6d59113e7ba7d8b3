"""Shares of a machine's cores and accelerators, one for each worker."""

import dataclasses
import os

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """What of a machine a worker may use.

    Args:
        cores: Numbers of its cores; None where the operating system cannot pin.
        environment: Variables of the trial's process.
    """

    cores: tuple[int, ...] | None
    environment: dict[str, str]


def shares(workers: int) -> list[Share]:
    """Returns equal shares of this process's cores, and of its accelerators if there are any."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    count = len(cores) if cores else os.cpu_count() or 1
    gpus = _gpus()
    made = []
    for i in range(workers):
        if workers <= count:
            first, last = i * count // workers, (i + 1) * count // workers
        else:
            first, last = i % count, i % count + 1
        environment = {"TF_NUM_INTRAOP_THREADS": str(last - first)} if workers > 1 else {}
        if gpus and workers > 1:
            own = gpus[i * len(gpus) // workers : (i + 1) * len(gpus) // workers]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(own or [gpus[i % len(gpus)]])
            if workers > len(gpus):
                environment["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        made.append(Share(tuple(cores[first:last]) if cores else None, environment))
    return made


def _gpus() -> list[str]:
    """Returns the names by which CUDA_VISIBLE_DEVICES calls the accelerators of this process."""
    count = len(tf.config.list_physical_devices("GPU"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]
