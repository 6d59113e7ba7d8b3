"""Trains a residual network of 50 layers with ELU on ImageNet, or on the embedded digits without.

python trainers/imagenet_resnet.py --strategy mirrored
python trainers/imagenet_resnet.py --dataset imagenet2012 --data_dir FOLDER --strategy mirrored
"""

from keras_elu import training
from keras_elu.recipes import imagenet_resnet

if __name__ == "__main__":
    training.main(imagenet_resnet)
