"""Exponential linear units for Keras 3, and the experiments of the paper that introduced them."""

from keras_elu import layers, models, schedules

__all__ = ["__version__", "layers", "models", "schedules"]
__version__ = "0.1.0"
