"""Trains the paper's network of 15 layers on ImageNet, or on the embedded digits without it.

python trainers/imagenet.py --strategy mirrored
python trainers/imagenet.py --dataset imagenet2012 --data_dir FOLDER --strategy mirrored

Expected on the digits: 98% of the test images right, in a minute and a half on two cores. It has
not been run on ImageNet, of which the paper gets more than 90% right within five guesses. 60 epochs
are 1.9e19 floating-point operations: at the rate of NVIDIA's ResNet-50 on an A100, 58 TFLOP/s, 90
hours on one of them and 12 on eight. This is an estimate.
"""

from keras_elu import training
from keras_elu.recipes import imagenet

if __name__ == "__main__":
    training.main(imagenet)
