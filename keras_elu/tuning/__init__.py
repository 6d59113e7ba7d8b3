"""Searches over schedules: what is searched, and how trials are drawn, run and kept."""

from keras_elu.tuning.search import main
from keras_elu.tuning.spaces import alpha, learning_rate

__all__ = ["alpha", "learning_rate", "main"]
