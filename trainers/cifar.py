"""Trains the paper's network of 11 convolutions on CIFAR-100.

python trainers/cifar.py --dataset cifar100
python trainers/cifar.py --dataset cifar10 --epochs 5

A step of 100 images is 95 GFLOP, half a second on two cores that have nothing else to do;
165,000 steps, as in the paper, are for a GPU. Expected of CIFAR-10 after 5 epochs: 60.9% of the
test images right.
"""

from keras_elu import training
from keras_elu.recipes import cifar

if __name__ == "__main__":
    training.main(cifar)
