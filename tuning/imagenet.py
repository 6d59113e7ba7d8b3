"""Searches schedules for the paper's network of 15 layers.

python tuning/imagenet.py --dataset imagenet2012 --epochs 18 --tuner hyperband --parallel_trials 8
"""

from keras_elu import tuning
from keras_elu.recipes import imagenet

if __name__ == "__main__":
    tuning.main(imagenet, learning_rate=tuning.learning_rate, alpha=tuning.alpha)
