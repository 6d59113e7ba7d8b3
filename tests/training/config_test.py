"""Defaults that depend on the data set, and activations by name."""

import dataclasses

import numpy as np
import pytest

from keras_elu import data, layers, schedules, training
from keras_elu.recipes import autoencoder, cifar, imagenet, mnist
from keras_elu.training import checks, command_line, from_config
from keras_elu.training.config import recipe_name, resolve

RECIPES = (autoencoder, cifar, imagenet, mnist)


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_after_resolving_only_what_may_be_open_is_open(recipe):
    for name in data.names():
        resolved = resolve(recipe, recipe.Config(dataset=name))
        assert resolved.dataset == name
        assert min(resolved.batch_size, resolved.learning_rate, resolved.epochs) > 0
        checks.check(resolved)


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_recipes_do_not_redefine_shared_fields(recipe):
    shared = {field.name: field for field in dataclasses.fields(training.Config)}
    resolved = resolve(recipe, recipe.Config(dataset="digits"))
    for field in dataclasses.fields(recipe.Config):
        wanted = shared.get(field.name, field).default
        if field.name == "activation" and field.default == "auto":  # depends on the network
            assert resolved.activation == wanted
        else:
            assert field.default == wanted


@pytest.mark.parametrize("prepared", [False, True])
def test_auto_is_the_recipes_data_set_where_it_is_prepared_and_digits_elsewhere(
    prepared, monkeypatch
):
    asked = []
    monkeypatch.setattr(data, "is_prepared", lambda *args: asked.append(args) or prepared)
    resolved = resolve(imagenet, imagenet.Config(data_dir="folder"))
    assert asked == [("imagenet2012", "folder")]
    assert resolved.dataset == ("imagenet2012" if prepared else "digits")
    assert resolved.width == imagenet.DEFAULTS[resolved.dataset]["width"]


def test_a_flag_beats_the_data_sets_default():
    resolved = resolve(mnist, mnist.Config(dataset="digits", epochs=3))
    assert (resolved.epochs, resolved.batch_size) == (3, mnist.DEFAULTS["digits"]["batch_size"])


def test_alpha_reaches_the_activation():
    elu = training.activation(mnist.Config(alpha=0.5), steps=10)
    assert float(elu().get_config()["alpha"]) == 0.5
    learnt = training.activation(mnist.Config(alpha=0.5, activation="parametric_elu"), steps=10)
    assert learnt().get_config()["alpha"] == 0.5
    assert isinstance(
        training.activation(mnist.Config(activation="shifted_relu"), steps=10)(), layers.ShiftedReLU
    )


def test_the_recipes_own_learning_rates_are_those_of_the_paper_or_chosen():
    for steps in (1, 19, 20, 165, 7_777, 165_000):
        rates = {
            recipe: training.learning_rate(resolve(recipe, recipe.Config()), steps)
            for recipe in RECIPES
        }
        assert rates[mnist] == 0.03
        assert rates[autoencoder] == 0.001
        assert rates[imagenet] == schedules.Cosine(0.01, steps, warmup_steps=steps // 20)
        assert rates[cifar] == schedules.elu_cifar_11(steps)


# By flags, the learning rate over its peak, or alpha over --alpha, after parts of the training.
RATES = {
    "constant": ({"schedule": "constant"}, {0: 1, 0.5: 1, 1: 1}),
    "constant, warm-up": (
        {"schedule": "constant", "warmup": 0.2},
        {0: 0, 0.1: 0.5, 0.2: 1, 1: 1},
    ),
    "piecewise, warm-up": (
        {"schedule": "piecewise", "warmup": 0.175},  # 165 steps of 200 are left
        {0: 0, 0.07: 0.4, 0.175: 1, 0.345: 1, 0.35: 0.5, 0.6: 0.05, 0.85: 0.005, 1: 0.005},
    ),
    "cosine": (
        {"schedule": "cosine", "end": 0.1},
        {0: 0, 0.025: 0.5, 0.05: 1, 0.525: 0.55, 1: 0.1},
    ),
    "one cycle": ({"schedule": "one_cycle"}, {0: 0.04, 0.15: 0.52, 0.3: 1, 0.65: 0.5, 1: 0}),
    "knots": (
        {"schedule": "knots", "knots": "0.2,1,0"},
        {0: 0.2, 0.25: 0.6, 0.5: 1, 0.75: 0.5, 1: 0},
    ),
    "knots, warm-up": (
        {"schedule": "knots", "knots": "1,0.5", "warmup": 0.5},
        {0: 0, 0.25: 0.5, 0.5: 1, 0.75: 0.75, 1: 0.5},
    ),
}
ALPHAS = {
    "constant": ({}, {0: 1, 1: 1}),
    "linear": (
        {"schedule": "linear", "end": 3.0, "until": 0.5},
        {0: 1, 0.25: 2, 0.5: 3, 1: 3},
    ),
    "cosine": ({"schedule": "cosine", "end": 0.5}, {0: 1, 0.25: 0.9267767, 0.5: 0.75, 1: 0.5}),
    "knots": ({"schedule": "knots", "knots": "1,0.1,2"}, {0: 1, 0.25: 0.55, 0.5: 0.1, 1: 2}),
}


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [("learning_rate", *case) for case in RATES.values()]
    + [("alpha", *case) for case in ALPHAS.values()],
    ids=[f"learning rate: {name}" for name in RATES] + [f"alpha: {name}" for name in ALPHAS],
)
def test_a_schedule_has_the_shape_that_its_flags_say(name, flags, expected):
    chosen = {f"{name}_{flag}": value for flag, value in flags.items()}
    resolved = resolve(mnist, mnist.Config(**{name: 0.3}, **chosen))
    schedule = getattr(from_config, name)(resolved, 200)
    steps = np.array([round(part * 200) for part in expected])
    values = schedule(steps) if callable(schedule) else np.full(len(steps), schedule)
    assert np.allclose(values, [0.3 * value for value in expected.values()], atol=1e-6)


def test_a_scheduled_alpha_is_that_of_every_hidden_layer():
    resolved = resolve(
        mnist, mnist.Config(dataset="digits", alpha_schedule="linear", alpha_end=0.5)
    )
    dataset = data.synthetic(image_shape=(8, 8, 1), classes=10, examples=32)
    model, _ = mnist.build(resolved, dataset, 40)
    found = [layer.schedule for layer in model.layers if isinstance(layer, layers.ELU)]
    assert found == [schedules.Linear(1.0, 0.5, 40)] * 8


def test_a_config_of_every_schedule_is_repeated_by_its_file(tmp_path):
    for flags in (
        ["--learning_rate_schedule=knots", "--learning_rate_knots=0,1,0.5", "--alpha_end=1"],
        ["--learning_rate_schedule=one_cycle", "--alpha_schedule=cosine", "--alpha_end=0.25"],
    ):
        asked = resolve(mnist, command_line.parse(mnist, [*flags, "--dataset=digits"]))
        folder = training.RunFolder(
            mnist, dataclasses.replace(asked, run_dir=str(tmp_path / flags[0]))
        )
        folder.start(["0", "1"], {"train": 8})
        again = command_line.parse(mnist, ["--config", str(folder.path / "config.json")])
        assert dataclasses.replace(again, config=None) == asked
