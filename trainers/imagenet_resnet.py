"""Trains a residual network of 50 layers with ELU on ImageNet, or on the embedded digits without.

python trainers/imagenet_resnet.py --strategy mirrored
python trainers/imagenet_resnet.py --dataset imagenet2012 --data_dir FOLDER --strategy mirrored

Expected on the digits: 97% of the test images right, in three minutes on two cores. It has not
been run on ImageNet. There the same network with ReLU reaches 76.1% in 90 epochs as torchvision
first trained it, 78.1% in 100 as Wightman et al. do, and 78.4% in 88 in ffcv's recipe. 100 epochs
are 1.65e18 floating-point operations: at the rate of NVIDIA's 2,375 images of 224 pixels a second
on an A100, 8 hours on one of them and an hour on eight. This is an estimate.
"""

from keras_elu import training
from keras_elu.recipes import imagenet_resnet

if __name__ == "__main__":
    training.main(imagenet_resnet)
