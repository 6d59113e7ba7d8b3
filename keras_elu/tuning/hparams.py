"""The search in TensorBoard's HParams dashboard: one row for every trial.

The runs of a trial write their own values there, under the name of the trial.
"""

import pathlib
import re
import time

import keras_tuner
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api
from tensorboard.summary.writer.event_file_writer import EventFileWriter


def describe(trials: pathlib.Path, hp: keras_tuner.HyperParameters, objective: str) -> None:
    """Writes the columns of the dashboard, once: the flags that differ, and the objective.

    Args:
        trials: The folder of the trials.
        hp: The hyper-parameters. Knots, which are numbered, are one flag.
        objective: Metric of the history, such as "val_loss".
    """
    if list(trials.glob("events.out.tfevents.*")):
        return
    flags = dict.fromkeys(re.sub(r"_knots_\d+$", "_knots", h.name) for h in hp.space)
    tag = f"epoch_{objective.removeprefix('val_')}"
    metric = api.Metric(tag, group="validation", display_name=objective)
    summary = api.hparams_config_pb([api.HParam(flag) for flag in flags], [metric])
    writer = EventFileWriter(str(trials))
    writer.add_event(event_pb2.Event(wall_time=time.time(), step=0, summary=summary))
    writer.close()
