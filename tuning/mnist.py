"""Searches schedules for the paper's network of 8 layers of 128 units.

python tuning/mnist.py --dataset digits --max_trials 20 --workers 2
"""

from keras_elu import tuning
from keras_elu.recipes import mnist


def learning_rate(hp, config):
    """Any shape; a peak from a tenth of the recipe's to ten times that."""
    return tuning.learning_rate(hp, config, times=10)


def alpha(hp, config):
    """Any shape; from a half of the recipe's to twice that, and from there as far again."""
    return tuning.alpha(hp, config, times=2)


if __name__ == "__main__":
    tuning.main(mnist, learning_rate=learning_rate, alpha=alpha)
