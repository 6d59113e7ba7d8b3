"""Trains the paper's network of 15 layers on ImageNet, or on the embedded digits.

python trainers/imagenet.py --strategy mirrored
python trainers/imagenet.py --dataset imagenet2012 --data_dir FOLDER --strategy mirrored

Expected on the digits: a test accuracy of 98%, after a minute and a half on two cores. It has not
been run on ImageNet, where the paper reports a top-5 accuracy of more than 90%. The 60 epochs take
1.9e19 floating-point operations. At 58 TFLOP/s, the rate of NVIDIA's ResNet-50 on an A100, that is
an estimated 90 hours on one A100 and 12 hours on eight.
"""

from keras_elu import training
from keras_elu.recipes import imagenet

if __name__ == "__main__":
    training.main(imagenet)
