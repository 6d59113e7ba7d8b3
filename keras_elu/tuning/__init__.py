"""Searches over schedules: their spaces, and the command that draws, runs and compares trials."""

from keras_elu.tuning.command import main
from keras_elu.tuning.spaces import alpha, learning_rate

__all__ = ["alpha", "learning_rate", "main"]
