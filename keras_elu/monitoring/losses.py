"""Losses that are not finite, in short trainings that measure or compare something else."""

import keras

from keras_elu.distributed.execution import NonFiniteLoss


def train_past_non_finite(model: keras.Model) -> list[int]:
    """Lets `fit` continue after losses that are not finite.

    Args:
        model: A compiled model that has not been trained yet.

    Returns:
        A list that `fit` fills with the numbers of executions' first steps with such a loss.

    Example:

    >>> with keras_elu.training.strategy("default").scope():
    ...     inputs = keras.Input((1,))
    ...     model = keras_elu.training.DistributedModel(inputs, keras.layers.Dense(1)(inputs))
    ...     model.compile("sgd", "mse")
    >>> steps = train_past_non_finite(model)
    >>> history = model.fit(np.full((3, 1), np.nan), np.ones((3, 1)), batch_size=1, verbose=0)
    >>> steps
    [1, 2, 3]
    """
    steps, make = [], model.make_train_function

    def make_train_function(force=False):
        if model.train_function is not None and not force:
            return
        make(force)
        function = model.train_function

        def train(iterator):
            try:
                return function(iterator)
            except NonFiniteLoss as error:
                steps.append(error.step)
                with model.distribute_strategy.scope():
                    return model.get_metrics_result()

        model.train_function = train

    model.make_train_function = make_train_function
    return steps
