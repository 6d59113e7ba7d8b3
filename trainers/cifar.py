"""Trains the paper's network of 11 convolutions on CIFAR-100.

python trainers/cifar.py --dataset cifar100
python trainers/cifar.py --dataset cifar10 --epochs 2

A step of 100 images is 95 GFLOP: a quarter of a second on two cores that have nothing else to do,
and 165,000 steps, as in the paper, are for a GPU.
"""

from keras_elu import training
from keras_elu.recipes import cifar

if __name__ == "__main__":
    training.main(cifar)
