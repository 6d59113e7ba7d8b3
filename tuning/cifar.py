"""Searches schedules for the paper's networks of 11 and 18 convolutions, or a residual network.

python tuning/cifar.py --dataset cifar10 --epochs 10 --tuner hyperband --parallel_trials 4
"""

from keras_elu import tuning
from keras_elu.recipes import cifar

if __name__ == "__main__":
    tuning.main(cifar, learning_rate=tuning.learning_rate, alpha=tuning.alpha)
