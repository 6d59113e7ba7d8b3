"""Trains the paper's network of 11 convolutions on CIFAR-100.

python trainers/cifar.py --dataset cifar100
python trainers/cifar.py --dataset cifar10 --epochs 1 --validation_examples 0
"""

from keras_elu import training
from keras_elu.recipes import cifar

if __name__ == "__main__":
    training.main(cifar)
