"""The looks of the arms in the figures."""

import re

import matplotlib.image
import pytest

from keras_elu.experiments import figures, tables

pytestmark = pytest.mark.tensorflow
PANELS = [
    pytest.param(panel, id=f"{name}-{number}")
    for name, experiment in tables.EXPERIMENTS.items()
    for number, panel in enumerate(experiment.panels)
]


@pytest.mark.parametrize("panel", PANELS)
def test_no_two_arms_of_a_panel_look_the_same(panel):
    looks = figures._looks(panel.arms)
    assert list(looks) == list(panel.arms)
    assert len({tuple(look.values()) for look in looks.values()}) == len(panel.arms)


@pytest.mark.parametrize("panel", PANELS)
def test_an_activation_has_one_colour_in_all_figures(panel):
    looks = figures._looks(panel.arms)
    assert looks["elu_5x256" if "elu_5x256" in looks else "elu"]["color"] == "#d1495b"
    for arm, look in looks.items():
        if re.match("(shifted_|leaky_)?relu", arm):
            activation = re.match("[a-z]*_?relu", arm)[0]
            assert look["color"] == figures._looks([activation])[activation]["color"]
        elif not arm.startswith("elu"):
            assert look["color"] not in figures._COLOURS.values()


def test_of_two_arms_of_an_activation_the_second_is_dashed_and_more_have_other_colours():
    two = figures._looks(["elu", "elu_batch_norm", "relu", "relu_batch_norm"])
    assert [look["linestyle"] for look in two.values()] == ["-", "--", "-", "--"]
    assert two["elu"]["color"] == two["elu_batch_norm"]["color"] != two["relu"]["color"]
    more = figures._looks(["elu", "elu_gain_1", "elu_no_shift"])
    assert [look["linestyle"] for look in more.values()] == ["-", "-", "-"]
    assert len({look["color"] for look in more.values()}) == 3


@pytest.mark.parametrize("name", tables.EXPERIMENTS)
def test_a_figure_is_drawn_of_some_of_the_runs(name, tmp_path):
    experiment = tables.EXPERIMENTS[name]
    curves = {panel.curve: [0.5, 0.25, 0.2] for panel in experiment.panels}
    runs = [
        {"arm": arm, "case": case, "diverged": seed or None, "curves": curves}
        for arm in list(experiment.arms)[1:]
        for case in list(experiment.cases)[:1]
        for seed in (0, 1)
    ]
    figures.draw(experiment, runs, tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").std() > 0.05
