"""Trains the paper's network of 8 layers of 128 units on MNIST.

    python trainers/mnist.py --dataset mnist

Expected: 97% of the test images right after 10 epochs, in half a minute on two cores.
"""

from keras_elu import training
from keras_elu.recipes import mnist

if __name__ == "__main__":
    training.main(mnist)
