"""What TensorBoard's HParams dashboard shows of a search."""

import pathlib
import time
from typing import Any

from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def describe(trials: pathlib.Path, objective: str) -> None:
    """Says once, for all trials, by which metric of the validation they are compared."""
    tag = f"epoch_{objective.removeprefix('val_')}"
    metric = api.Metric(tag, group="tensorboard/validation", display_name=objective)
    _write(trials, api.hparams_config_pb(hparams=[], metrics=[metric]))


def write(run: pathlib.Path, trial: str, values: dict[str, Any]) -> None:
    """Says once what the hyper-parameters of a trial are, after one of its runs has begun."""
    if (run / "config.json").exists():  # without it the folder would not be taken for a run's
        _write(run, api.hparams_pb(values, trial_id=trial))


def _write(folder: pathlib.Path, summary) -> None:
    if not list(folder.glob("events.out.tfevents.*")):
        writer = EventFileWriter(str(folder))
        writer.add_event(event_pb2.Event(wall_time=time.time(), step=0, summary=summary))
        writer.close()
