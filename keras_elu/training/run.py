"""A run: everything that training needs, built and checked."""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.distributed.model import DistributedModel
from keras_elu.training.config import Config, recipe_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run needs: it is built and checked, and nothing has been trained or written.

    `training` takes the number of the first batch; `trial` is None outside a search.
    """

    recipe: str
    trial: str | None
    config: Config
    dataset: data.Dataset
    steps_per_epoch: int
    replicas: int
    model: keras.Model
    training: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    test: tf.data.Dataset


def prepare_run(
    recipe: types.ModuleType,
    config: Config,
    strategy: tf.distribute.Strategy,
    trial: str | None = None,
) -> Run:
    """Loads the data set and builds the model.

    Raises:
        ValueError: If the data set cannot be had, or does not fit the config.
    """
    dataset = data.load(
        config.dataset,
        data_dir=config.data_dir,
        manual_dir=config.manual_dir,
        validation_examples=config.validation_examples,
    )
    steps_per_epoch = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
    _, validation, test = recipe.datasets(config, dataset)
    with strategy.scope(), _explained():
        plain, arguments = recipe.build(config, dataset, steps_per_epoch * config.epochs)
        model = DistributedModel(plain.inputs, plain.outputs, name=plain.name)
        model.compile(
            **arguments,
            jit_compile={"auto": "auto", "on": True, "off": False}[config.jit_compile],
            micro_batches=config.micro_batches,
            steps_per_execution=config.steps_per_execution,
        )
    return Run(
        recipe=recipe_name(recipe),
        trial=trial,
        config=config,
        dataset=dataset,
        steps_per_epoch=steps_per_epoch,
        replicas=strategy.num_replicas_in_sync,
        model=model,
        training=lambda start: recipe.datasets(config, dataset, start)[0],
        validation=validation,
        test=test,
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns what TensorFlow says of a model that cannot be built into one sentence."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.partition("\n")[0].partition(" [Op:")[0].rstrip(".")
        raise ValueError(
            f"The model cannot be built ({type(error).__name__}: {reason}): make it smaller."
        ) from None
