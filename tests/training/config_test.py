"""Defaults that depend on the data set, and activations by name."""

import dataclasses

import pytest

from keras_elu import data, layers, training
from keras_elu.recipes import autoencoder, cifar, imagenet, mnist
from keras_elu.training import command_line, config

RECIPES = (autoencoder, cifar, imagenet, mnist)


@pytest.mark.parametrize("recipe", RECIPES, ids=command_line.recipe_name)
def test_after_resolving_only_what_may_be_open_is_open(recipe):
    for name in data.names():
        resolved = config.resolve(recipe, recipe.Config(dataset=name))
        assert resolved.dataset == name
        assert min(resolved.batch_size, resolved.learning_rate, resolved.epochs) > 0
        config.check(resolved)


@pytest.mark.parametrize("recipe", RECIPES, ids=command_line.recipe_name)
def test_recipes_do_not_redefine_shared_fields(recipe):
    shared = {field.name: field for field in dataclasses.fields(training.Config)}
    for field in dataclasses.fields(recipe.Config):
        assert field.default == shared.get(field.name, field).default


@pytest.mark.parametrize("prepared", [False, True])
def test_auto_is_the_recipes_data_set_where_it_is_prepared_and_digits_elsewhere(
    prepared, monkeypatch
):
    asked = []
    monkeypatch.setattr(data, "is_prepared", lambda *args: asked.append(args) or prepared)
    resolved = config.resolve(imagenet, imagenet.Config(data_dir="folder"))
    assert asked == [("imagenet2012", "folder")]
    assert resolved.dataset == ("imagenet2012" if prepared else "digits")
    assert resolved.width == imagenet.DEFAULTS[resolved.dataset]["width"]


def test_a_flag_beats_the_data_sets_default():
    resolved = config.resolve(mnist, mnist.Config(dataset="digits", epochs=3))
    assert (resolved.epochs, resolved.batch_size) == (3, mnist.DEFAULTS["digits"]["batch_size"])


def test_alpha_reaches_the_activation():
    elu = training.activation(mnist.Config(alpha=0.5))
    assert float(elu().get_config()["alpha"]) == 0.5
    learnt = training.activation(mnist.Config(alpha=0.5, activation="parametric_elu"))
    assert learnt().get_config()["alpha"] == 0.5
    assert isinstance(
        training.activation(mnist.Config(activation="shifted_relu"))(), layers.ShiftedReLU
    )
