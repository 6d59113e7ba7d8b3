"""Trains or fine-tunes a network of keras.applications, with its ReLUs or with another activation.

python trainers/applications.py --network ResNet50 --initial_weights imagenet --freeze conv1,conv2
python trainers/applications.py --network ResNet50 --activation elu --dataset digits

It has been run on the embedded digits only, with random initial weights: the weights for ImageNet
need a download.
"""

from keras_elu import training
from keras_elu.recipes import applications

if __name__ == "__main__":
    training.main(applications)
