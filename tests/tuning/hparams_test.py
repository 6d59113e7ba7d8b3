"""The search in TensorBoard's HParams dashboard."""

import keras_tuner
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from keras_elu.tuning import hparams


def read(folder):
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    (content,) = events.PluginTagToContent("hparams").values()
    return plugin_data_pb2.HParamsPluginData.FromString(content).experiment


def test_every_searched_flag_is_one_column_and_the_objective_is_the_metric(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("alpha", 0.5, 2.0)
    for knot in range(4):
        hp.Float(f"alpha_knots_{knot}", 0.0, 1.0)
    hparams.describe(tmp_path, hp, "val_accuracy")
    experiment = read(tmp_path)
    assert [h.name for h in experiment.hparam_infos] == ["alpha", "alpha_knots"]
    (metric,) = experiment.metric_infos
    assert (metric.name.tag, metric.name.group) == ("epoch_accuracy", "validation")
    assert metric.display_name == "val_accuracy"


def test_a_resumed_search_writes_nothing_again(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("alpha", 0.5, 2.0)
    hparams.describe(tmp_path, hp, "val_loss")
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    hparams.describe(tmp_path, hp, "val_loss")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
