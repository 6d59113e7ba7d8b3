"""Trains the paper's network of 15 layers on ImageNet, or on the embedded digits.

python trainers/imagenet.py --strategy mirrored
python trainers/imagenet.py --dataset imagenet2012 --data_dir FOLDER --strategy mirrored

Expected on the digits: a test accuracy of 98%, or of 99% with --virtual_devices 2 (make train),
after about a minute on two cores. It has not been run on ImageNet, where the paper reports a top-5
accuracy of more than 90%. The 60 epochs take 1.9e19 floating-point operations. At an assumed 35% of
an A100's peak, that is an estimated 47 hours on one A100 and 6.5 hours on eight (docs/gpus.md).
"""

from keras_elu import training
from keras_elu.recipes import imagenet

if __name__ == "__main__":
    training.main(imagenet)
