"""Searches schedules for the network that learns CIFAR in a few epochs.

python tuning/fast_cifar.py --dataset cifar10 --widths 32,64,96 --epochs 6 --space alpha
"""

from keras_elu import tuning
from keras_elu.recipes import fast_cifar

if __name__ == "__main__":
    tuning.main(fast_cifar, learning_rate=tuning.learning_rate, alpha=tuning.alpha)
