"""Searches schedules for the paper's network of 15 layers.

python tuning/imagenet.py --dataset imagenet2012 --epochs 18 --tuner hyperband --workers 8
"""

from keras_elu import tuning
from keras_elu.recipes import imagenet


def learning_rate(hp, config):
    """Any shape; a peak from a fifth of the recipe's to five times that."""
    return tuning.learning_rate(hp, config, times=5)


def alpha(hp, config):
    """Any shape; from a half of the recipe's to twice that, and from there as far again."""
    return tuning.alpha(hp, config, times=2)


if __name__ == "__main__":
    tuning.main(imagenet, learning_rate=learning_rate, alpha=alpha)
