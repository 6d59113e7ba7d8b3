"""Trains the paper's network of 15 layers on ImageNet, or on the embedded digits without it.

python trainers/imagenet.py --strategy mirrored
python trainers/imagenet.py --dataset imagenet2012 --manual_dir FOLDER --strategy mirrored

Expected on the digits: 98% of the test images right, in a minute and a half on two cores.
"""

from keras_elu import training
from keras_elu.recipes import imagenet

if __name__ == "__main__":
    training.main(imagenet)
