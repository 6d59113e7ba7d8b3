"""A Keras model that trains correctly on any number of replicas and workers."""

from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.distributed.model import DistributedModel
from keras_elu.distributed.strategies import strategy

__all__ = ["DistributedModel", "NonFiniteLoss", "strategy"]
