"""Search spaces lie around the recipe's own configuration and contain it."""

import dataclasses

import keras_tuner
import pytest

from keras_elu import training, tuning
from keras_elu.recipes import cifar, imagenet, mnist
from keras_elu.training import checks, from_config
from keras_elu.training.config import resolve

SPACES = [
    pytest.param(recipe, [getattr(tuning, n) for n in names], id=f"{recipe.__name__}-{names}")
    for recipe in (mnist, cifar, imagenet)
    for names in (["learning_rate"], ["alpha"], ["learning_rate", "alpha"])
]


def mapped(spaces, hp, config):
    for space in spaces:
        config = space(hp, config)
    return config


@pytest.mark.parametrize(("recipe", "spaces"), SPACES)
def test_a_space_at_its_defaults_is_the_recipes_default(recipe, spaces):
    for dataset in recipe.DEFAULTS:
        config = resolve(recipe, recipe.Config(dataset=dataset))
        assert mapped(spaces, keras_tuner.HyperParameters(), config) == config


@pytest.mark.parametrize(("recipe", "spaces"), SPACES)
def test_a_space_at_its_defaults_is_the_given_configuration(recipe, spaces):
    for flags in (
        {"learning_rate": 0.002, "alpha": 0.3, "learning_rate_warmup": 0.6},
        {"learning_rate_schedule": "one_cycle", "learning_rate_end": 0.5},
        {"learning_rate_schedule": "knots", "learning_rate_knots": "0.123456,1,0.2"},
        {
            "learning_rate_schedule": "knots",
            "learning_rate_knots": "1,0",
            "learning_rate_warmup": 0.1,
        },
        {"alpha_schedule": "cosine", "alpha_end": 0.1, "alpha_until": 0.05},
        {"alpha_schedule": "knots", "alpha_knots": "1,9,0.5,0.25,1"},
    ):
        config = resolve(recipe, recipe.Config(dataset="digits", **flags))
        assert mapped(spaces, keras_tuner.HyperParameters(), config) == config


@pytest.mark.parametrize(("recipe", "spaces"), SPACES)
def test_every_draw_is_a_valid_config_and_changes_only_the_searched_fields(recipe, spaces):
    config = resolve(recipe, recipe.Config(dataset="digits"))
    hp = keras_tuner.HyperParameters()
    mapped(spaces, hp, config)
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", 200, seed=1, hyperparameters=hp)
    searched = {h.name.partition("_knots_")[0] for h in hp.space}
    seen = {name: set() for name in ("learning_rate_schedule", "alpha_schedule")}
    for _ in range(200):
        drawn_hp = hp.copy()
        drawn_hp.values = oracle.populate_space("any")["values"]
        drawn = mapped(spaces, drawn_hp, config)
        checks.check(drawn)
        assert resolve(recipe, drawn) == drawn
        from_config.learning_rate(drawn, 300)
        from_config.alpha(drawn, 300)
        for field in dataclasses.fields(drawn):
            same = getattr(drawn, field.name) == getattr(config, field.name)
            name = field.name.removesuffix("_knots")
            assert same or name in searched
        for name, values in seen.items():
            values.add(getattr(drawn, name))
    assert {len(values) for values in seen.values()} <= {1, 4, 5}
    for name, values in seen.items():
        assert (len(values) > 1) == (name in searched)


def test_a_hyper_parameter_is_spelled_as_the_flag():
    hp = keras_tuner.HyperParameters()
    config = resolve(mnist, mnist.Config(dataset="digits"))
    mapped([tuning.learning_rate, tuning.alpha], hp, config)
    fields = {field.name for field in dataclasses.fields(training.Config)}
    assert {h.name.rstrip("0123456789").removesuffix("_") for h in hp.space} <= fields
