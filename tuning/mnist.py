"""Searches schedules for the paper's network of 8 layers of 128 units.

python tuning/mnist.py --dataset digits --max_trials 20 --parallel_trials 2
"""

from keras_elu import tuning
from keras_elu.recipes import mnist

if __name__ == "__main__":
    tuning.main(mnist, learning_rate=tuning.learning_rate, alpha=tuning.alpha)
