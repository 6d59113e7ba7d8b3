"""Trains a network on CIFAR-10 or CIFAR-100 in 18 epochs.

python trainers/fast_cifar.py --dataset cifar10
python trainers/fast_cifar.py --dataset cifar100 --manual_dir FOLDER

CIFAR-10 takes 0.7 PFLOP and CIFAR-100 takes 2.7; the paper's large network takes 112.
"""

from keras_elu import training
from keras_elu.recipes import fast_cifar

if __name__ == "__main__":
    training.main(fast_cifar)
