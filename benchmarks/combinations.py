"""Exactness of all combinations: strategy x precision x XLA x micro-batches x steps_per_execution.

    python benchmarks/combinations.py           # DistributedModel: all 72 cells must pass
    python benchmarks/combinations.py --stock   # keras.Model on the same 72 cells
    python benchmarks/combinations.py --devices gpus --results runs

Each cell trains a small network with `fit`, with an uneven last batch in each epoch, and compares
its weights with those of a plain run: stock Keras, one replica, no XLA, the same precision. A cell
passes if the largest difference is rounding: at most four times the difference between the plain
run and the same run in float64. Stock Keras has no micro-batches; it accumulates the gradients of
as many smaller batches instead. Prints the table and writes it to benchmarks/results. The exit code
is 1 if a cell of DistributedModel fails.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STRATEGIES = {"default": 1, "mirrored": 1, "multiworker": 2}  # processes
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CELLS = list(itertools.product(PRECISIONS, (False, True), (1, 4), (1, 8)))
RESULTS = pathlib.Path(__file__).parent / "results"
EXAMPLES, BATCH, EPOCHS = 153, 16, 2  # 10 steps in an epoch, the last with 9 examples
SECONDS = 900  # for a strategy
MEMORY = 2048  # MiB for each part of a GPU that is split


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stock", action="store_true", help="keras.Model instead of DistributedModel"
    )
    parser.add_argument("--results", default=RESULTS, help="folder for the table")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument(
        "--devices",
        choices=("cpus", "gpus", "split"),
        default="cpus",
        help="cpus: two logical CPU devices. gpus: all GPUs, one for each worker. split: two "
        "logical devices of the first GPU, or of the CPU if there is none, summed on one of them.",
    )
    parser.add_argument("--process", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--plain", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process:
        strategy = make_strategy(arguments.process, arguments.devices)
        for row in train(arguments.process, strategy, arguments.stock, arguments.plain):
            print(json.dumps(row), flush=True)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder, "plain.npz")
        table = [
            row
            for name in arguments.strategies
            for row in start(name, arguments.devices, arguments.stock, plain)
        ]
    name = "stock" if arguments.stock else "distributed"
    lines = ",\n ".join(map(json.dumps, table))
    path = pathlib.Path(arguments.results, f"combinations_{name}.json")
    path.write_text(f"[{lines}]\n", encoding="utf-8")
    print(markdown(table))
    held = sum(row["holds"] for row in table)
    print(f"\n{held} of {len(table)} hold.")
    return 0 if arguments.stock or held == len(arguments.strategies) * len(CELLS) else 1


def start(strategy: str, devices: str, stock: bool, plain: pathlib.Path) -> list[dict]:
    """Trains the cells of a strategy in new processes, and returns the rows of the first."""
    command = [sys.executable, __file__, "--process", strategy, "--plain", plain]
    command += ["--devices", devices, *(["--stock"] if stock else [])]
    environments = [os.environ | ({"CUDA_VISIBLE_DEVICES": "-1"} if devices == "cpus" else {})]
    if strategy == "multiworker":
        workers = {"worker": [f"localhost:{port}" for port in free_ports(STRATEGIES[strategy])]}
        environments = [
            environments[0]
            | ({"CUDA_VISIBLE_DEVICES": str(i)} if devices == "gpus" else {})
            | {
                "TF_CONFIG": json.dumps(
                    {"cluster": workers, "task": {"type": "worker", "index": i}}
                )
            }
            for i in range(STRATEGIES[strategy])
        ]
    with tempfile.TemporaryFile("w+") as messages:
        processes = [
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=messages, text=True)
            for env in environments
        ]
        rows = []
        for line in processes[0].stdout:
            rows.append(json.loads(line))
            print(f"\r{strategy}: {len(rows)} of {len(CELLS)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for process in processes:
            process.communicate(timeout=SECONDS)
        if any(process.returncode for process in processes):
            messages.seek(0)
            print(messages.read(), file=sys.stderr)
    return rows


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def make_strategy(name: str, devices: str):
    """Returns a strategy on these devices. It is made before TensorFlow starts."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    cpu, gpus = tf.config.list_physical_devices("CPU")[0], tf.config.list_physical_devices("GPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if devices == "split" and gpus:
        tf.config.set_visible_devices(gpus[:1], "GPU")
        parts = [tf.config.LogicalDeviceConfiguration(MEMORY)] * 2
        tf.config.set_logical_device_configuration(gpus[0], parts)
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "default":
        return tf.distribute.get_strategy()
    replicas = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    reduction = tf.distribute.ReductionToOneDevice() if devices == "split" else None
    return tf.distribute.MirroredStrategy(
        [device.name for device in replicas], cross_device_ops=reduction
    )


def train(name: str, strategy, stock: bool, plain_runs: pathlib.Path):
    """Yields the row of each cell of a strategy; the first strategy saves the plain runs."""
    import keras
    import numpy as np
    import tensorflow as tf

    plain_strategy = tf.distribute.get_strategy()

    from keras_elu import layers, training

    random = np.random.default_rng(0)
    images = random.normal(size=(EXAMPLES, 6, 6, 2))
    labels = random.integers(0, 3, EXAMPLES)
    start = None

    def weights(model, strategy, precision, micro_batches=1, **arguments):
        """Trains a network and returns its weights as one vector."""
        nonlocal start
        keras.config.set_dtype_policy(precision)
        batch = BATCH
        optimizer = {"learning_rate": 0.1, "momentum": 0.9}
        if model is training.DistributedModel:
            arguments["micro_batches"] = micro_batches
        elif micro_batches > 1:
            optimizer["gradient_accumulation_steps"] = micro_batches
            batch //= micro_batches
        with strategy.scope():
            inputs = keras.Input((6, 6, 2))
            x = layers.ELU()(keras.layers.Conv2D(4, 3, kernel_regularizer="l2")(inputs))
            outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
            network = model(inputs, keras.layers.Activation("linear", dtype="float32")(outputs))
            network.compile(
                keras.optimizers.SGD(**optimizer),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
                **arguments,
            )
        shapes = [w.shape for w in network.get_weights()]
        if start is None:
            start = np.concatenate([w.ravel() / 2 for w in network.get_weights()])
        parts = np.split(start, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        network.set_weights([part.reshape(s) for part, s in zip(parts, shapes, strict=True)])
        network.fit(images, labels, batch_size=batch, epochs=EPOCHS, verbose=0, shuffle=False)
        return np.concatenate([w.ravel().astype("float64") for w in network.get_weights()])

    def difference(a, b):
        return float(np.abs(a - b).max())

    keras.utils.set_random_seed(0)
    if not plain_runs.exists():
        keras.config.set_floatx("float64")
        runs = {"exact": weights(keras.Model, plain_strategy, "float64", jit_compile=False)}
        keras.config.set_floatx("float32")
        for precision in PRECISIONS:
            runs[precision] = weights(keras.Model, plain_strategy, precision, jit_compile=False)
        np.savez(plain_runs, start=start, **runs)
    plain = np.load(plain_runs)
    start = plain["start"]
    for precision, jit_compile, micro_batches, steps in CELLS:
        row = {
            "strategy": name,
            "precision": precision,
            "jit_compile": jit_compile,
            "micro_batches": micro_batches,
            "steps_per_execution": steps,
            "bound": 4 * difference(plain["exact"], plain[precision]),
        }
        try:
            got = weights(
                keras.Model if stock else training.DistributedModel,
                strategy,
                precision,
                micro_batches,
                jit_compile=jit_compile,
                steps_per_execution=steps,
            )
            row["difference"] = difference(got, plain[precision])
            row["holds"] = row["difference"] <= row["bound"]
        except Exception as error:  # an exception of stock Keras is a result
            first = str(error).partition("\n")[0]
            row |= {"error": f"{type(error).__name__}: {first}", "holds": False}
        yield row


def markdown(table: list[dict]) -> str:
    """Returns the table, with a row for each strategy and precision."""
    columns = list(itertools.product((False, True), (1, 4), (1, 8)))

    def cell(row):
        if "error" in row:
            return "fails"
        return f"{row['difference']:.0e}" if row["holds"] else f"off by {row['difference']:.0e}"

    head = [f"{'XLA ' if jit else ''}{micro} x {steps}" for jit, micro, steps in columns]
    lines = [["strategy", "precision", *head], ["---"] * (2 + len(columns))]
    for (strategy, precision), rows in itertools.groupby(
        table, lambda row: (row["strategy"], row["precision"])
    ):
        lines.append([strategy, precision, *map(cell, rows)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
