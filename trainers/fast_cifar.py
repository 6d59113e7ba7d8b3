"""Trains a network on CIFAR-10 or CIFAR-100 in a few epochs.

python trainers/fast_cifar.py --dataset cifar10
python trainers/fast_cifar.py --dataset cifar100 --manual_dir FOLDER
"""

from keras_elu import training
from keras_elu.recipes import fast_cifar

if __name__ == "__main__":
    training.main(fast_cifar)
