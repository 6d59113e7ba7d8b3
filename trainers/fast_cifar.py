"""Trains a network on CIFAR-10 or CIFAR-100 in 18 epochs.

python trainers/fast_cifar.py --dataset cifar10
python trainers/fast_cifar.py --dataset cifar100 --manual_dir FOLDER

With all 50,000 training images, CIFAR-10 takes 0.75 PFLOP and CIFAR-100 takes 2.96; a tenth less
with the 5,000 that are held out by default. The paper's large network takes 112.
"""

from keras_elu import training
from keras_elu.recipes import fast_cifar

if __name__ == "__main__":
    training.main(fast_cifar)
