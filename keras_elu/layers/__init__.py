"""The ELU family and the activations that the paper compares it with."""

from keras_elu.layers.activations import get
from keras_elu.layers.elu import ELU
from keras_elu.layers.parametric import ParametricELU
from keras_elu.layers.shifted_relu import ShiftedReLU

__all__ = ["ELU", "ParametricELU", "ShiftedReLU", "get"]
