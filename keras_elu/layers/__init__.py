"""The ELU family, the activations that the paper compares it with, and the layers of its peers."""

from keras_elu.layers.activations import get
from keras_elu.layers.elu import ELU
from keras_elu.layers.highway import HighwayGate
from keras_elu.layers.maxout import Maxout
from keras_elu.layers.parametric import ParametricELU
from keras_elu.layers.pooling import CeilMaxPooling2D, FractionalMaxPooling2D
from keras_elu.layers.response import ResponseNormalization2D
from keras_elu.layers.shifted_relu import ShiftedReLU

__all__ = [
    "ELU",
    "CeilMaxPooling2D",
    "FractionalMaxPooling2D",
    "HighwayGate",
    "Maxout",
    "ParametricELU",
    "ResponseNormalization2D",
    "ShiftedReLU",
    "get",
]
