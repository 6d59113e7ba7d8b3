"""What a user of the package writes: the type checker reads it, and the wheel's test runs it."""

import keras
import numpy as np

import keras_elu

layer = keras_elu.layers.ELU(alpha=0.5)
assert float(layer(np.array([-1000.0]))[0]) == -0.5
assert [float(x) for x in keras_elu.schedules.Linear(1.0, 0.5, 10)(np.array([0, 10]))] == [1.0, 0.5]

network = keras_elu.models.mnist_mlp(input_shape=(8, 8, 1), classes=10)
assert network.count_params() > 0

strategy = keras_elu.training.strategy("default")
with strategy.scope():
    inputs = keras.Input((3,))
    model = keras_elu.training.DistributedModel(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile("sgd", "mse", micro_batches=2)
history = model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=4, verbose=0)
assert len(history.history["loss"]) == 1

activity = keras_elu.diagnostics.activity(network, np.zeros((2, 8, 8, 1), "float32"))
print(f"keras_elu {keras_elu.__version__}: the activity of {len(activity)} layers")
