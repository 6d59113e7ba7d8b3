"""Trains the paper's deep autoencoder on MNIST.

python trainers/autoencoder.py --dataset mnist
"""

from keras_elu import training
from keras_elu.recipes import autoencoder

if __name__ == "__main__":
    training.main(autoencoder)
