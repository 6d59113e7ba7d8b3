"""Trains the paper's deep autoencoder on MNIST.

python trainers/autoencoder.py --dataset mnist --epochs 2

Expected: a test loss of 18.9, half the squared error of an image summed over its pixels.
"""

from keras_elu import training
from keras_elu.recipes import autoencoder

if __name__ == "__main__":
    training.main(autoencoder)
