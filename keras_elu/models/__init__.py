"""The paper's networks, with any activation, as functional Keras models that return logits.

Every factory accepts the activations that `keras_elu.layers.get` accepts. Batch normalisation,
where enabled, follows the activation. By default, initial weights are scaled for the activation.
Layers have the same names in every process, such as `conv_3`, `activation_3` and `logits`.
"""

from keras_elu.models.applications import ApplicationPixels, application
from keras_elu.models.cifar import elu_cifar_11, elu_cifar_18
from keras_elu.models.classifier import Classifier, classifier
from keras_elu.models.imagenet import elu_imagenet_15
from keras_elu.models.mnist import mnist_autoencoder, mnist_mlp
from keras_elu.models.pyramid import SpatialPyramidPooling2D
from keras_elu.models.replacement import replace_activations
from keras_elu.models.residual import elu_resnet, elu_resnet_50
from keras_elu.models.units import second_moment
from keras_elu.models.whitening import Whitening

__all__ = [
    "ApplicationPixels",
    "Classifier",
    "SpatialPyramidPooling2D",
    "Whitening",
    "application",
    "classifier",
    "elu_cifar_11",
    "elu_cifar_18",
    "elu_imagenet_15",
    "elu_resnet",
    "elu_resnet_50",
    "mnist_autoencoder",
    "mnist_mlp",
    "replace_activations",
    "second_moment",
]
