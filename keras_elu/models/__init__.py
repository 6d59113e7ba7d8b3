"""The paper's networks, for any activation, as functional Keras models that give logits.

Every factory takes the activation as `keras_elu.layers.get` does, places batch normalisation after
the activation where it is asked for, and initialises the weights for the activation unless it is
told otherwise. Layers have the same names in every process: `conv_3`, `activation_3`, `logits`.
"""

from keras_elu.models.cifar import elu_cifar_11, elu_cifar_18
from keras_elu.models.imagenet import elu_imagenet_15
from keras_elu.models.mnist import mnist_autoencoder, mnist_mlp
from keras_elu.models.pyramid import SpatialPyramidPooling2D
from keras_elu.models.replacement import replace_activations
from keras_elu.models.residual import elu_resnet, elu_resnet_50
from keras_elu.models.units import second_moment

__all__ = [
    "SpatialPyramidPooling2D",
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
