"""Trains the paper's network of 8 layers of 128 units on MNIST.

python trainers/mnist.py --dataset mnist --epochs 10

Expected: 97.3% of the test images right, in less than a minute on two cores. Without MNIST it
trains on the embedded digits: 97.9%.
"""

from keras_elu import training
from keras_elu.recipes import mnist

if __name__ == "__main__":
    training.main(mnist)
