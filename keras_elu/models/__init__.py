"""Networks with any activation, as functional Keras models that return logits.

These are the networks of the paper, and those that it compares its results with. Every factory
accepts the activations that `keras_elu.layers.get` accepts. Batch normalisation, where enabled,
follows the activation. By default, initial weights are scaled for the activation; those of the
networks of others are as in their source, unless another activation is given. Layers have the same
names in every process, such as `conv_3`, `activation_3` and `logits`.
"""

from keras_elu.models.alexnet import alexnet_cifar
from keras_elu.models.all_convolutional import all_cnn
from keras_elu.models.applications import ApplicationPixels, application
from keras_elu.models.cifar import elu_cifar_11, elu_cifar_18
from keras_elu.models.classification import Classifier, classifier
from keras_elu.models.companions import CompanionLoss, companion_accuracy, squared_hinge
from keras_elu.models.contrast import ContrastNormalization
from keras_elu.models.cost import multiply_accumulates, pflop
from keras_elu.models.fast_cifar import fast_cifar
from keras_elu.models.fractional import fractional_max_pooling
from keras_elu.models.highways import highway
from keras_elu.models.imagenet import elu_imagenet_15
from keras_elu.models.maxouts import maxout
from keras_elu.models.mnist import mnist_autoencoder, mnist_mlp
from keras_elu.models.nin import (
    deeply_supervised,
    network_in_network,
    without_companions,
)
from keras_elu.models.patches import PatchWhitening
from keras_elu.models.pyramid import SpatialPyramidPooling2D
from keras_elu.models.replacement import replace_activations
from keras_elu.models.residual import elu_resnet, elu_resnet_50
from keras_elu.models.units import second_moment
from keras_elu.models.whitening import Whitening

__all__ = [
    "ApplicationPixels",
    "Classifier",
    "CompanionLoss",
    "ContrastNormalization",
    "PatchWhitening",
    "SpatialPyramidPooling2D",
    "Whitening",
    "alexnet_cifar",
    "all_cnn",
    "application",
    "classifier",
    "companion_accuracy",
    "deeply_supervised",
    "elu_cifar_11",
    "elu_cifar_18",
    "elu_imagenet_15",
    "elu_resnet",
    "elu_resnet_50",
    "fast_cifar",
    "fractional_max_pooling",
    "highway",
    "maxout",
    "mnist_autoencoder",
    "mnist_mlp",
    "multiply_accumulates",
    "network_in_network",
    "pflop",
    "replace_activations",
    "second_moment",
    "squared_hinge",
    "without_companions",
]
