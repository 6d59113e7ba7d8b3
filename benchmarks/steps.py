"""One training step: the model that distributes against stock Keras and PyTorch.

A step is forward, loss, backward and SGD with momentum, on one batch that lies in memory. Every
contestant has a process of its own, and they take turns, a step at a time where a step is long, so
that one computes while all others wait. Keras runs one `fit` without an end, which waits between
turns: neither compilation nor the start of `fit` counts. The limit is the faster of a matrix
product and a convolution of the network, measured in the same turns; the floating-point operations
of a step are those of its convolutions and dense layers, forward and backward. Ratios are to the
faster of stock Keras with and without XLA, of the wall time and of the processor time of all
threads: the median over the rounds, in which both ran within seconds, and where it lies with 95%
confidence, whatever the distribution. A second process of stock Keras shows what chance does.

    python benchmarks/steps.py
    python benchmarks/steps.py --tables cost --rounds 100

prints a table for each network and precision and appends it as a JSON line to
benchmarks/results/steps.jsonl. The table "cost" has only what is needed to tell the engine from
stock Keras, so that there can be many rounds.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pathlib
import random
import shutil
import socket
import statistics
import sys
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
TURN = {"mlp": 160, "cifar": 1, "imagenet_half": 1}  # steps
RATE = 1e-6  # of learning; many steps on one batch of noise must not diverge
UNTIMED = 2  # rounds; the first compiles
LIFE = 25  # rounds, then all processes start anew: where its memory lies makes a process slower
OURS, STOCK = "DistributedModel", "keras.Model"


def contestants():
    """Returns for each table, network and precision what takes part: kind of process, arguments."""
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
    cost = {
        OURS: ("keras", {}),
        STOCK: ("keras", stock),
        f"{STOCK}, again": ("keras", stock),
    }
    dense_cost = cost | {
        f"{STOCK}, XLA": ("keras", stock | xla),
        f"{STOCK}, XLA, again": ("keras", stock | xla),
    }
    return {
        ("mlp", "mlp", "float32"): mlp,
        ("cifar", "cifar", "float32"): cifar | limits,
        ("cifar", "cifar", "mixed_bfloat16"): cifar | limits,
        ("imagenet_half", "imagenet_half", "float32"): both | torch | limits,
        ("imagenet_half", "imagenet_half", "mixed_bfloat16"): both | torch | limits,
        ("scaling", "cifar", "float32"): scaling,
        ("cost", "mlp", "float32"): dense_cost,
        ("cost", "mlp", "mixed_bfloat16"): dense_cost,
        ("cost", "cifar", "float32"): cost,
        ("cost", "cifar", "mixed_bfloat16"): cost,
        ("cost", "imagenet_half", "float32"): cost,
        ("cost", "imagenet_half", "mixed_bfloat16"): cost,
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


class Turns:
    """Tells the parent what a turn took, and waits for the next; the process ends with the last."""

    def __init__(self, pipe):
        self._pipe = pipe
        pipe.send("ready")
        self._next()

    def _next(self):
        self._steps = self._left = self._pipe.recv()
        if not self._steps:
            # Not ru_maxrss, which is at least what the parent had when it started this process.
            status = pathlib.Path("/proc/self/status").read_text()
            self._pipe.send(1024 * int(status.split("VmHWM:")[1].split()[0]))
            sys.exit()
        self._begin = self._now()

    def done(self, steps, wait):
        """Counts steps, the last of which `wait` waits for."""
        self._left -= steps
        if self._left <= 0:
            wait()
            took = zip(self._now(), self._begin, strict=True)
            self._pipe.send([(end - begin) / self._steps for end, begin in took])
            self._next()

    @staticmethod
    def _now():
        return time.perf_counter(), time.process_time()


def serve(pipe, environment, core, kind, arguments):
    """Answers until the parent says 0: the seconds of a step; then the peak of memory in bytes."""
    os.environ |= environment
    if core is not None:
        os.sched_setaffinity(0, [core])
    KINDS[kind](**arguments).train(Turns(pipe))


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


def start(network, precision, batch, taking_part, layers, environment):
    """Returns the contestants, ready to run."""
    running = {}
    for name, (kind, arguments) in taking_part.items():
        common = {"network": network, "precision": precision, "batch": batch}
        common |= {"layers": layers} if kind == "torch" else {}
        running[name] = Contestant(kind, common | arguments, environment)
    for contestant in running.values():
        contestant.wait()
    return running


def measure(table, network, precision, taking_part, rounds, smoke):
    """Returns a row for each contestant: seconds of a step in every round, and memory."""
    layers, operations = plan(network)
    batch = 2 if smoke else NETWORKS[network][-1]
    environment = {"CUDA_VISIBLE_DEVICES": "-1"} if table == "scaling" else {}
    rows = {
        name: {
            "seconds": [],
            "processor seconds": [],
            "images": 0 if kind == "limit" else batch,
            "operations": OPERATIONS[arguments["of"]] if kind == "limit" else batch * operations,
            "peak memory": 0,
        }
        for name, (kind, arguments) in taking_part.items()
    }
    steps = 32 if smoke and network == "mlp" else TURN[network]
    progress = tqdm.tqdm(total=rounds, desc=f"{table} {network} {precision}", disable=None)
    for first in range(0, rounds, LIFE):
        running = start(network, precision, batch, taking_part, layers, environment)
        for i in range(-UNTIMED, min(LIFE, rounds - first)):
            for name in random.sample(list(running), len(running)):
                wall, processor = zip(*running[name].ask(steps), strict=True)
                if i >= 0:
                    rows[name]["seconds"].append(max(wall))
                    rows[name]["processor seconds"].append(sum(processor))
            progress.update(i >= 0)
        for name, contestant in running.items():
            peak = sum(contestant.ask(0))
            rows[name]["peak memory"] = max(rows[name]["peak memory"], peak)
    progress.close()
    return rows


def report(table, network, precision, rows):
    first = next(iter(rows.values()))
    print(
        f"\n{table}, {network}, {precision}: batch {first['images']}, "
        f"{first['operations'] / 1e9:.1f} GFLOP a step; milliseconds: median [min, max]; ratios: "
        "median [95% confidence]"
    )
    compared = "to 1 replica" if table == "scaling" else "to stock"
    print(
        f"{'':<34}{'a step':<20}{'images/s':>10}{compared:>24}{'processor':>24}{'GFLOP/s':>9}"
        f"{'of limit':>10}{'peak GB':>9}"
    )
    peers = [row for name, row in rows.items() if name in (STOCK, f"{STOCK}, XLA")]
    peer = min(peers or [first], key=lambda row: statistics.median(row["seconds"]))
    limits = [row for row in rows.values() if not row["images"]]
    limit = max((row["operations"] / min(row["seconds"]) for row in limits), default=None)
    for name, row in rows.items():
        median = statistics.median(row["seconds"])
        line = f"{name:<34}{spread(row['seconds']):<20}"
        if row["images"]:
            line += f"{row['images'] / median:>10,.1f}"
            line += f"{ratio(row, peer, 'seconds'):>24}{ratio(row, peer, 'processor seconds'):>24}"
        else:
            line += f"{'':>58}"
        rate = row["operations"] / (median if row["images"] else min(row["seconds"]))
        line += f"{rate / 1e9:>9,.0f}"
        line += f"{rate / limit:>10.0%}" if limit else f"{'':>10}"
        print(f"{line}{row['peak memory'] / 1e9:>9.2f}")
    if table == "cifar" and "PyTorch, torch.compile" not in rows:
        print("torch.compile is left out: it needs a C++ compiler, and there is none.")


def ratio(row, peer, key):
    """The median of the ratios of the rounds, and the two between which it lies with 95%."""
    ratios = sorted(a / b for a, b in zip(row[key], peer[key], strict=True))
    low, high = interval(len(ratios))
    return f"{statistics.median(ratios):.3f} [{ratios[low]:.3f}, {ratios[high]:.3f}]"


def interval(count):
    """Returns the places of the sorted values between which their median lies with 95%.

    Each value is below the true median with probability 1/2. Of fewer than 6 none are far enough
    apart, and the outermost are returned.
    """
    low, below = 0, 0.5**count  # the chance that of all values so few are below the true median
    while below <= 0.025:
        low += 1
        below += math.comb(count, low) / 2**count
    low = max(0, low - 1)
    return low, count - 1 - low


def spread(seconds):
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    digits = 3 if middle < 10 else 0
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main():
    tables = contestants()
    names = list(dict.fromkeys(table for table, _, _ in tables))
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

    for (table, network, precision), taking_part in tables.items():
        if table not in arguments.tables:
            continue
        measured = table, network, precision
        rows = measure(*measured, taking_part, arguments.rounds, arguments.smoke)
        report(*measured, rows)
        record = environment.describe() | {
            "benchmark": "steps",
            "table": table,
            "network": network,
            "precision": precision,
            "rows": [{"contestant": name} | row for name, row in rows.items()],
        }
        if arguments.smoke:
            print(json.dumps(record))
        else:
            environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
