"""One training step: the model that distributes against stock Keras and PyTorch.

A step is forward, loss, backward and SGD with momentum, on one batch that lies in memory. Every
contestant has a process of its own, and they take turns, a few steps at a time, so that one
computes while all others wait. Keras runs `fit`, timed from the end of one step to the end of
another: neither compilation nor the start of `fit` counts. The limit is the faster of a matrix
product and a convolution of the network, measured in the same turns; the floating-point operations
of a step are those of its convolutions and dense layers, forward and backward. Ratios are medians
over the rounds, to the faster of stock Keras with and without XLA.

    python benchmarks/steps.py

prints a table for each network and precision and appends it as a JSON line to
benchmarks/results/steps.jsonl.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import socket
import statistics
import time

import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "steps.jsonl"
# The factory in keras_elu.models and its arguments, and the global batch. The ImageNet network has
# half its width: at full width its 0.5 GB of weights, with momentum, gradients and copies, would
# take 5 GB in each of the processes.
NETWORKS = {
    "mlp": ("mnist_mlp", {"input_shape": (28, 28, 1), "classes": 10}, 32),
    "cifar": ("elu_cifar_11", {"input_shape": (32, 32, 3), "classes": 100}, 100),
    "imagenet_half": (
        "elu_imagenet_15",
        {"input_shape": (224, 224, 3), "classes": 1000, "width": 0.5},
        4,
    ),
}
TIMED = {"mlp": 320, "cifar": 3, "imagenet_half": 1}  # steps in a turn, after one that is not timed
OURS, STOCK = "DistributedModel", "keras.Model"


def contestants():
    """Returns for each table what takes part: name, kind of process, and its arguments."""
    stock, xla = {"stock": True, "jit_compile": False}, {"jit_compile": True}
    limits = {
        "limit: matrix product": ("limit", {"of": "product"}),
        "limit: convolution": ("limit", {"of": "convolution"}),
    }
    both = {
        OURS: ("keras", {}),
        STOCK: ("keras", stock),
        f"{STOCK}, XLA": ("keras", stock | xla),
    }
    torch = {
        "PyTorch": ("torch", {}),
        "PyTorch, channels_last": ("torch", {"channels_last": True}),
    }
    cifar = {
        **both,
        f"{OURS}, XLA": ("keras", xla),
        f"{OURS}, 4 micro-batches": ("keras", {"micro_batches": 4}),
        f"{STOCK}, keras.layers.ELU": ("keras", stock | {"activation": "keras"}),
        **torch,
    }
    if shutil.which("c++") or shutil.which("g++"):
        cifar["PyTorch, torch.compile"] = ("torch", {"channels_last": True, "compiled": True})
    mlp = {
        **both,
        f"{OURS}, no XLA": ("keras", {"jit_compile": False}),
        f"{OURS}, 32 an execution": ("keras", {"steps_per_execution": 32}),
        f"{STOCK}, XLA, 32 an execution": ("keras", stock | xla | {"steps_per_execution": 32}),
    }
    scaling = {
        "1 replica, 2 cores": ("keras", {}),
        "2 replicas, mirrored": ("keras", {"strategy": "mirrored"}),
        "2 replicas, workers": ("keras", {"strategy": "multiworker"}),
    }
    return {
        ("mlp", "float32"): mlp,
        ("cifar", "float32"): cifar | limits,
        ("cifar", "mixed_bfloat16"): cifar | limits,
        ("imagenet_half", "float32"): both | torch | limits,
        ("imagenet_half", "mixed_bfloat16"): both | torch | limits,
        ("scaling", "float32"): scaling,
    }


def plan(network):
    """Returns the layers, as PyTorch is told them, and operations of a step for each image."""
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
            # Backward costs as much for the weights, and for the inputs, which images do not need.
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
        keras.config.set_dtype_policy(precision)
        factory, given, _ = NETWORKS[network]
        activation = keras.layers.ELU if activation == "keras" else activation
        with training.strategy(strategy).scope():
            model = getattr(models, factory)(**given, activation=activation)
            if not stock:
                model = training.DistributedModel(model.inputs, model.outputs)
            model.compile(
                keras.optimizers.SGD(0.001, momentum=0.9),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                steps_per_execution=steps_per_execution,
                **arguments,
            )
        images = tf.random.normal([batch, *given["input_shape"]])
        labels = tf.random.uniform([batch], maxval=given["classes"], dtype="int32")
        self._dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()
        self._model, self._untimed = model, steps_per_execution

        class Clock(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.begin = self.end = None

            def on_train_batch_end(self, batch, logs=None):
                if self.begin is None or batch + 1 == self.params["steps"]:
                    float(logs["loss"])  # waits for an accelerator
                    self.begin, self.end = self.begin or time.perf_counter(), time.perf_counter()

        self._clock = Clock()

    def seconds(self, steps):
        self._model.fit(
            self._dataset,
            steps_per_epoch=self._untimed + steps,
            verbose=0,
            callbacks=[self._clock],
        )
        return (self._clock.end - self._clock.begin) / steps


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
            [{"params": kernels, "weight_decay": 0.0005}, {"params": biases}], 0.001, momentum=0.9
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

    def seconds(self, steps):
        self._step().item()
        begin = time.perf_counter()
        for _ in range(steps):
            loss = self._step()
        loss.item()
        return (time.perf_counter() - begin) / steps


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

    def seconds(self, steps):
        begin = time.perf_counter()
        for _ in range(steps):
            result = self._function(*self._operands)
        result[:1].numpy()
        return (time.perf_counter() - begin) / steps


OPERATIONS = {"product": 2 * 4096**3, "convolution": 2 * 100 * 16 * 16 * 3 * 3 * 192 * 240}
KINDS = {"keras": Keras, "torch": PyTorch, "limit": Limit}


def serve(pipe, environment, core, kind, arguments):
    """Answers until the parent says 0: the seconds of a step; then the peak of memory in bytes."""
    os.environ |= environment
    if core is not None:
        os.sched_setaffinity(0, [core])
    measured = KINDS[kind](**arguments)
    pipe.send("ready")
    while steps := pipe.recv():
        pipe.send(measured.seconds(steps))
    # Not ru_maxrss, which is at least what the parent had when it started this process.
    status = pathlib.Path("/proc/self/status").read_text()
    pipe.send(1024 * int(status.split("VmHWM:")[1].split()[0]))


class Contestant:
    """The processes of one contestant, two where there are two workers."""

    def __init__(self, kind, arguments, environment):
        environments = [(environment, None)]
        if arguments.get("strategy") == "multiworker":
            cores = sorted(os.sched_getaffinity(0))[:2]
            environments = [
                (environment | {"TF_CONFIG": config, "TF_NUM_INTRAOP_THREADS": "1"}, core)
                for config, core in zip(clusters(len(cores)), cores, strict=True)
            ]
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for environment, core in environments:
            pipe, theirs = context.Pipe()
            given = theirs, environment, core, kind, arguments
            context.Process(target=serve, args=given, daemon=True).start()
            theirs.close()  # so that a process that died ends the wait for it
            self._pipes.append(pipe)

    def wait(self):
        return [pipe.recv() for pipe in self._pipes]

    def ask(self, steps):
        for pipe in self._pipes:
            pipe.send(steps)
        return self.wait()


def clusters(count):
    """Returns TF_CONFIG for each worker."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        addresses = [f"localhost:{server.getsockname()[1]}" for server in servers]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})
        for i in range(count)
    ]


def measure(table, precision, taking_part, rounds, smoke):
    """Returns a row for each contestant: seconds of a step in every round, and memory."""
    network = "cifar" if table == "scaling" else table
    layers, operations = plan(network)
    batch = 2 if smoke else NETWORKS[network][-1]
    environment = {"CUDA_VISIBLE_DEVICES": "-1"} if table == "scaling" else {}
    rows, running = {}, {}
    for name, (kind, arguments) in taking_part.items():
        common = {"network": network, "precision": precision, "batch": batch}
        common |= {"layers": layers} if kind == "torch" else {}
        running[name] = Contestant(kind, common | arguments, environment)
        rows[name] = {
            "seconds": [],
            "images": 0 if kind == "limit" else batch,
            "operations": OPERATIONS[arguments["of"]] if kind == "limit" else batch * operations,
        }
    for contestant in running.values():
        contestant.wait()
    steps = 32 if smoke and table == "mlp" else TIMED[network]
    for i in tqdm.trange(1 + rounds, desc=f"{table} {precision}", disable=None):
        for name, contestant in running.items():
            seconds = max(contestant.ask(steps))
            if i:  # the first compiles
                rows[name]["seconds"].append(seconds)
    for name, contestant in running.items():
        rows[name]["peak memory"] = sum(contestant.ask(0))
    return rows


def report(table, precision, rows):
    first = next(iter(rows.values()))
    print(
        f"\n{table}, {precision}: batch {first['images']}, {first['operations'] / 1e9:.1f} GFLOP a "
        "step; milliseconds: median [min, max]"
    )
    compared = "to 1 replica" if table == "scaling" else "to stock"
    print(
        f"{'':<34}{'a step':<26}{'images/s':>10}{compared:>14}{'GFLOP/s':>9}{'of limit':>10}"
        f"{'peak GB':>9}"
    )
    peers = [row for name, row in rows.items() if name in (STOCK, f"{STOCK}, XLA")]
    peer = min(peers or [first], key=lambda row: statistics.median(row["seconds"]))
    limits = [row for row in rows.values() if not row["images"]]
    limit = max((row["operations"] / min(row["seconds"]) for row in limits), default=None)
    for name, row in rows.items():
        median = statistics.median(row["seconds"])
        line = f"{name:<34}{spread(row['seconds']):<26}"
        if row["images"]:
            both = zip(row["seconds"], peer["seconds"], strict=True)
            ratio = statistics.median(a / b for a, b in both)
            text = f"{1 / ratio:.0%}" if table == "scaling" else f"{ratio:.3f}x"
            line += f"{row['images'] / median:>10,.1f}{text:>14}"
        else:
            line += f"{'':>24}"
        rate = row["operations"] / (median if row["images"] else min(row["seconds"]))
        line += f"{rate / 1e9:>9,.0f}"
        line += f"{rate / limit:>10.0%}" if limit else f"{'':>10}"
        print(f"{line}{row['peak memory'] / 1e9:>9.2f}")
    if table == "cifar" and "PyTorch, torch.compile" not in rows:
        print("torch.compile is left out: it needs a C++ compiler, and there is none.")


def spread(seconds):
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    digits = 3 if middle < 10 else 0
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main():
    tables = contestants()
    names = list(dict.fromkeys(table for table, _ in tables))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant")
    parser.add_argument(
        "--smoke", action="store_true", help="batches of 2; print the JSON lines, append nothing"
    )
    arguments = parser.parse_args()

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    # Keras would warn of a data set that it cannot shuffle, PyTorch of kernels of an even size.
    os.environ["PYTHONWARNINGS"] = "ignore"
    from keras_elu import environment

    for (table, precision), taking_part in tables.items():
        if table not in arguments.tables:
            continue
        rows = measure(table, precision, taking_part, arguments.rounds, arguments.smoke)
        report(table, precision, rows)
        record = environment.describe() | {
            "benchmark": "steps",
            "table": table,
            "precision": precision,
            "rows": [{"contestant": name} | row for name, row in rows.items()],
        }
        line = json.dumps(record)
        if arguments.smoke:
            print(line)
            continue
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(line + "\n")
    if not arguments.smoke:
        print(f"\nAppended to {RESULTS.relative_to(pathlib.Path.cwd())}.")


if __name__ == "__main__":
    main()
