"""The picture of a search."""

import numpy as np
import pytest
from matplotlib import colors

from keras_elu.recipes import mnist
from keras_elu.training.config import resolve
from keras_elu.tuning import outcomes, results

pytestmark = pytest.mark.tensorflow


def contrast(color):
    """The contrast of a colour with white, by WCAG 2: from 1, for white, to 21, for black."""
    channels = np.array(colors.to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("black") == pytest.approx(21)
    assert contrast("white") == pytest.approx(1)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_better_trials_are_darker_and_the_worst_are_seen_on_white(direction):
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    good_first = values if direction == "min" else values[::-1]
    found = {
        str(number): outcomes.Outcome(status=status, value=value, epochs=1)
        for number, (value, status) in enumerate(
            zip(good_first, [*["complete"] * 4, "pruned"], strict=True)
        )
    }
    config = dict.fromkeys(found, resolve(mnist, mnist.Config(dataset="digits")))
    figure = results.picture(config, found, "0", "val_loss", direction)
    *others, best = figure.axes[0].get_lines()  # the best is drawn last
    shades = [contrast(line.get_color()) for line in others]
    assert best.get_label() == "best, 0"
    assert shades == sorted(shades, reverse=True)
    assert shades[0] > shades[-1] > 2
