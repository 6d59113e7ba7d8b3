"""The contestants of steps.py: a training step in Keras and in PyTorch, and the device's limits.

The `train` method of each class runs steps for ever, and reports each of them to `turns`.
"""

import math

# The factory in keras_elu.models, its arguments, and the global batch. The ImageNet network has
# half its width: at full width its 0.5 GB of weights, with momentum, gradients and copies, would
# take 5 GB in each process.
NETWORKS = {
    "mlp": ("mnist_mlp", {"input_shape": (28, 28, 1), "classes": 10}, 32),
    "cifar": ("elu_cifar_11", {"input_shape": (32, 32, 3), "classes": 100}, 100),
    "imagenet_half": (
        "elu_imagenet_15",
        {"input_shape": (224, 224, 3), "classes": 1000, "width": 0.5},
        4,
    ),
}
RATE = 1e-6  # small, so that many steps on one batch of noise do not diverge


def plan(network):
    """Returns descriptions of the layers, for PyTorch, and the operations per image of a step."""
    import keras

    from keras_elu import models

    factory, arguments, _ = NETWORKS[network]
    layers, operations = [], 0
    for layer in getattr(models, factory)(**arguments).layers:
        description = {"kind": type(layer).__name__} | {
            key: value
            for key in ("filters", "units", "kernel_size", "strides", "pool_size", "rate", "levels")
            if (value := getattr(layer, key, None)) is not None
        }
        if layer.weights:
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            description |= {"inputs": kernel.shape[-2], "scale": float(kernel.std())}
            forward = 2 * kernel.size * math.prod(layer.output.shape[1:-1])
            # Backward costs as much again for the weights, and for the inputs, except for images.
            operations += forward * (3 if operations else 2)
        layers.append(description)
    return layers, operations


class Keras:
    def __init__(
        self,
        network,
        precision,
        batch,
        stock=False,
        activation="elu",
        strategy="default",
        steps_per_execution=1,
        deterministic=False,
        **arguments,
    ):
        import keras
        import tensorflow as tf

        from keras_elu import models, training

        if strategy == "mirrored":
            cpu = tf.config.list_physical_devices("CPU")[0]
            halves = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(cpu, halves)
        keras.utils.set_random_seed(0)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        keras.config.set_dtype_policy(precision)
        factory, given, _ = NETWORKS[network]
        activation = keras.layers.ELU if activation == "keras" else activation
        with training.strategy(strategy).scope():
            model = getattr(models, factory)(**given, activation=activation)
            if not stock:
                model = training.DistributedModel(model.inputs, model.outputs)
            model.compile(
                keras.optimizers.SGD(RATE, momentum=0.9),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                steps_per_execution=steps_per_execution,
                **arguments,
            )
        images = tf.random.normal([batch, *given["input_shape"]])
        labels = tf.random.uniform([batch], maxval=given["classes"], dtype="int32")
        self._dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()
        self._model = model

    def train(self, turns):
        import keras

        def on_train_batch_end(batch, logs):
            turns.done(self._model.steps_per_execution, lambda: float(logs["loss"]))

        clock = keras.callbacks.LambdaCallback(on_train_batch_end=on_train_batch_end)
        self._model.fit(self._dataset, steps_per_epoch=2**31 - 1, verbose=0, callbacks=[clock])


class PyTorch:
    def __init__(self, network, precision, batch, layers, channels_last=False, compiled=False):
        import torch

        torch.manual_seed(0)
        _, given, _ = NETWORKS[network]
        height, width, channels = given["input_shape"]
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        order = torch.channels_last if channels_last else torch.contiguous_format
        model = torch.nn.Sequential(*map(module, layers))
        model = model.to(self._device, memory_format=order)
        self._mixed = precision == "mixed_bfloat16"
        images = torch.randn(batch, channels, height, width, device=self._device)
        self._images = images.to(memory_format=order)
        self._labels = torch.randint(given["classes"], [batch], device=self._device)
        parameters = list(model.parameters())
        kernels = [p for p in parameters if p.ndim > 1]
        biases = [p for p in parameters if p.ndim == 1]
        self._optimizer = torch.optim.SGD(
            [{"params": kernels, "weight_decay": 0.0005}, {"params": biases}], RATE, momentum=0.9
        )
        self._model = torch.compile(model) if compiled else model

    def _step(self):
        import torch

        self._optimizer.zero_grad()
        with torch.autocast(self._device, torch.bfloat16, enabled=self._mixed):
            logits = self._model(self._images)
        loss = torch.nn.functional.cross_entropy(logits.float(), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss

    def train(self, turns):
        while True:
            turns.done(1, self._step().item)


def module(layer):
    """Returns the PyTorch module for a layer of a plan."""
    import torch
    from torch import nn

    def scaled(module):
        nn.init.normal_(module.weight, std=layer["scale"])
        nn.init.zeros_(module.bias)
        return module

    class Pyramid(nn.Module):
        def forward(self, x):
            pooled = [nn.functional.adaptive_max_pool2d(x, level) for level in layer["levels"]]
            return torch.cat([p.flatten(2) for p in pooled], 2)

    match layer["kind"]:
        case "Conv2D":
            (size, _), (stride, _) = layer["kernel_size"], layer["strides"]
            padding = "same" if stride == 1 else (size - stride) // 2
            arguments = layer["inputs"], layer["filters"], size, stride, padding
            return scaled(nn.Conv2d(*arguments))
        case "Dense":
            return scaled(nn.Linear(layer["inputs"], layer["units"]))
        case "MaxPooling2D":
            return nn.MaxPool2d(layer["pool_size"], ceil_mode=True)
        case "GlobalAveragePooling2D":
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case "SpatialPyramidPooling2D":
            return Pyramid()
        case "Dropout":
            return nn.Dropout(layer["rate"])
        case "ELU":
            return nn.ELU()
        case "Flatten":
            return nn.Flatten()
        case "InputLayer":
            return nn.Identity()


class Limit:
    def __init__(self, network, precision, batch, of):
        import tensorflow as tf

        dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
        shapes, function = {
            "product": (([4096, 4096], [4096, 4096]), tf.matmul),
            # The layer of the CIFAR network with the most operations.
            "convolution": (
                ([100, 16, 16, 192], [3, 3, 192, 240]),
                lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"),
            ),
        }[of]
        self._operands = [tf.cast(tf.random.normal(shape), dtype) for shape in shapes]
        self._function = tf.function(function)

    def train(self, turns):
        while True:
            turns.done(1, self._function(*self._operands)[:1].numpy)


OPERATIONS = {"product": 2 * 4096**3, "convolution": 2 * 100 * 16 * 16 * 3 * 3 * 192 * 240}
KINDS = {"keras": Keras, "torch": PyTorch, "limit": Limit}
