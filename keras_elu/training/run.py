"""A run, ready to train: its data set, pipelines and compiled model."""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_elu import data
from keras_elu.distributed.model import DistributedModel
from keras_elu.training import command_line, devices, freezing
from keras_elu.training.config import Config, recipe_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is built and checked; nothing has been trained or written yet.

    Attributes:
        trial: Name of the search trial that the run belongs to, or None.
        self_contained: Returns the model to save, which takes pixels from 0 to 255 and shares the
            layers of `model`. All workers call it, in the scope of the strategy.
        training: Returns the training batches from a given batch number on.
    """

    recipe: str
    trial: str | None
    config: Config
    dataset: data.Dataset
    steps_per_epoch: int
    replicas: int
    model: keras.Model
    self_contained: Callable[[], keras.Model]
    training: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    test: tf.data.Dataset


def prepare_run(
    recipe: types.ModuleType,
    config: Config,
    strategy: tf.distribute.Strategy,
    trial: str | None = None,
    dataset: data.Dataset | None = None,
) -> Run:
    """Sets the seed and builds the model, after loading the data set unless one is given.

    Raises:
        ValueError: If the data set cannot be loaded, or does not fit the config.
    """
    dataset = dataset or load_dataset(config)
    steps_per_epoch = config.steps_per_epoch or dataset.steps_per_epoch(config.batch_size)
    _, validation, test = recipe.datasets(config, dataset)
    keras.utils.set_random_seed(config.seed)  # only here, since preparing a data set draws numbers
    with strategy.scope(), _explained():
        plain, arguments = recipe.build(config, dataset, steps_per_epoch * config.scheduled_epochs)
        freezing.prepare(plain, arguments["optimizer"], config)
        model = compiled(plain, arguments, config)
    return Run(
        recipe=recipe_name(recipe),
        trial=trial,
        config=config,
        dataset=dataset,
        steps_per_epoch=steps_per_epoch,
        replicas=strategy.num_replicas_in_sync,
        model=model,
        self_contained=lambda: _self_contained(
            recipe.self_contained(config, dataset, plain), model, arguments
        ),
        training=lambda start: recipe.datasets(config, dataset, start)[0],
        validation=validation,
        test=test,
    )


def load_dataset(config: Config) -> data.Dataset:
    """Returns the data set of a configuration."""
    return data.load(
        config.dataset,
        data_dir=config.data_dir,
        manual_dir=config.manual_dir,
        validation_examples=config.validation_examples,
    )


def compiled(plain: keras.Model, arguments: dict[str, Any], config: Config) -> DistributedModel:
    """Returns a functional model with the distributed step, compiled as the configuration says."""
    model = DistributedModel(plain.inputs, plain.outputs, name=plain.name)
    model.compile(
        **arguments,
        jit_compile={"auto": "auto", "on": True, "off": False}[config.jit_compile],
        micro_batches=config.micro_batches,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _self_contained(saved: keras.Model, trained: DistributedModel, arguments) -> keras.Model:
    """Compiles the model to save, with the optimizer that trains, whose state is saved, too.

    If layers are left out, the optimizer is a new one, since the state would not fit.
    """
    optimizer = trained.optimizer
    if len(saved.trainable_variables) != len(trained.trainable_variables):
        optimizer = type(optimizer).from_config(optimizer.get_config())
    saved.compile(**arguments | {"optimizer": optimizer})
    return saved


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
