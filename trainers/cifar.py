"""Trains the paper's network of 11 convolutions on CIFAR-100, or another one of its table.

python trainers/cifar.py --dataset cifar100
python trainers/cifar.py --dataset cifar10 --epochs 5
python trainers/cifar.py --dataset cifar10 --network alexnet_cifar

A step with 100 images takes 95 GFLOP, or a quarter to half a second on two cores. The 165,000
steps of the paper need a GPU. Expected on CIFAR-10 after 5 epochs: a test accuracy of 60.9%.
"""

from keras_elu import training
from keras_elu.recipes import cifar

if __name__ == "__main__":
    training.main(cifar)
