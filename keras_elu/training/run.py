"""A run, ready to train: its data set, pipelines and compiled model."""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.distributed.model import DistributedModel
from keras_elu.training import command_line, devices, initial_weights
from keras_elu.training.config import Config, recipe_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is built and checked; nothing has been trained or written yet.

    Attributes:
        trial: Name of the search trial that the run belongs to, or None.
        training: Returns the training batches from a given batch number on.
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
        ValueError: If the data set cannot be loaded, or does not fit the config.
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
        plain, arguments = recipe.build(config, dataset, steps_per_epoch * config.scheduled_epochs)
        initial_weights.prepare(plain, arguments["optimizer"], config)
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


def prepare_script(
    arguments: Sequence[str], check: Callable[[Config], None] = lambda config: None
) -> tuple[types.ModuleType, tf.distribute.Strategy, Run]:
    """Prepares the run of a trainer, for a command that examines it.

    Args:
        arguments: A trainer's script and its flags.
        check: Raises `ValueError` for a configuration that the command cannot examine.

    Returns:
        The recipe, the strategy and the run.

    Raises:
        ValueError: With one sentence, if the script, a flag or the data set is wrong.
    """
    recipe, config = command_line.trainer(arguments)
    check(config)
    strategy = devices.set_up(config)
    return recipe, strategy, prepare_run(recipe, config, strategy)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turns an error that TensorFlow raises while a model is built into one sentence."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.partition("\n")[0].partition(" [Op:")[0].rstrip(".")
        raise ValueError(
            f"The model cannot be built ({type(error).__name__}: {reason}): make it smaller."
        ) from None
