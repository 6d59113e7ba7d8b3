"""ELU against Keras's and PyTorch's: time of a pass, and memory kept for the backward pass.

Each backend runs in its own process, and all take turns, one call at a time. The limit is the time
to read and write the tensor once (`-x`): forward does that, and backward reads two tensors and
writes one, so that both passes take at least 2.5 times as long as the fastest such copy. The peer
is the backend's own layer, and "before" is the ratio to it in the last recorded run of another
commit. Bytes kept are those per element that the backward pass needs besides the output, which the
next layer keeps anyway.

    python benchmarks/layers.py

prints a table for each dtype and appends it as a JSON line to benchmarks/results/layers.jsonl.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import operator
import os
import pathlib
import statistics
import time

import tqdm

RESULTS = pathlib.Path(__file__).parent / "results" / "layers.jsonl"
ALPHAS = (1.0, 0.5)
COPY = "read and write once"
CASE = ("backend", "layer", "alpha", "xla")
CASES = {
    "tensorflow": [(layer, alpha, xla) for xla in (False, True) for alpha in ALPHAS
                   for layer in ("keras", "ours")],
    "jax": [(layer, alpha, True) for alpha in ALPHAS for layer in ("keras", "ours")],
    "torch": [(layer, alpha, False) for alpha in ALPHAS for layer in ("torch.nn", "ours")],
}  # fmt: skip


def layer(name, alpha, dtype):
    if name == "torch.nn":
        import torch

        return torch.nn.ELU(alpha)
    import keras

    import keras_elu

    return {"keras": keras.layers.ELU, "ours": keras_elu.layers.ELU}[name](alpha, dtype=dtype)


class TensorFlow:
    def __init__(self, elements, dtype):
        import tensorflow as tf

        self.tf = tf
        self.device = (tf.config.list_physical_devices("GPU") or ["CPU"])[0]
        self.x, self.upstream = (tf.cast(tf.random.normal([elements]), dtype) for _ in range(2))

    def forward(self, function, xla):
        compiled = self.tf.function(function, jit_compile=xla, autograph=False)
        return lambda: self.wait(compiled(self.x))

    def both(self, function, xla):
        def passes(x, upstream):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return y, tape.gradient(y, x, upstream)

        compiled = self.tf.function(passes, jit_compile=xla, autograph=False)
        return lambda: self.wait(compiled(self.x, self.upstream)[1])

    def wait(self, tensor):
        tensor[:1].numpy()

    def kept(self, function):
        @self.tf.function(autograph=False)
        def passes(x):
            with self.tf.name_scope("forward"), self.tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            with self.tf.name_scope("backward"):
                return y, tape.gradient(y, x)

        graph = passes.get_concrete_function(self.x).graph
        backward = [op for op in graph.get_operations() if op.name.startswith("backward")]
        used = {tensor.ref() for op in backward for tensor in op.inputs}
        used -= {tensor.ref() for op in backward for tensor in op.outputs}
        used -= {graph.structured_outputs[0].ref()}
        sizes = [(t.deref().shape.num_elements() or 1) * t.deref().dtype.size for t in used]
        return sum(sizes) / len(self.x)


class JAX:
    def __init__(self, elements, dtype):
        import jax

        self.jax = jax
        self.device = jax.devices()[0]
        keys = jax.random.split(jax.random.key(0))
        self.x, self.upstream = (jax.random.normal(key, [elements]).astype(dtype) for key in keys)

    def forward(self, function, _):
        compiled = self.jax.jit(function)
        return lambda: compiled(self.x).block_until_ready()

    def both(self, function, _):
        def passes(x, upstream):
            y, pull_back = self.jax.vjp(function, x)
            return y, pull_back(upstream)[0]

        compiled = self.jax.jit(passes)
        return lambda: compiled(self.x, self.upstream)[1].block_until_ready()

    def kept(self, function):
        y, pull_back = self.jax.jit(lambda x: self.jax.vjp(function, x))(self.x)
        arrays = {a.unsafe_buffer_pointer(): a.nbytes for a in self.jax.tree.leaves(pull_back)}
        arrays.pop(y.unsafe_buffer_pointer(), None)
        return sum(arrays.values()) / len(self.x)


class PyTorch:
    def __init__(self, elements, dtype):
        import torch

        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.x, self.upstream = (
            torch.randn(elements, device=self.device).to(getattr(torch, dtype)) for _ in range(2)
        )

    def forward(self, function, _):
        def run():
            with self.torch.no_grad():
                function(self.x)
            self.wait()

        return run

    def both(self, function, _):
        x = self.x.requires_grad_()

        def run():
            self.torch.autograd.grad(function(x), x, self.upstream)
            self.wait()

        return run

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def kept(self, function):
        arrays = {}

        def save(tensor):
            arrays[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with self.torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            y = function(self.x.detach().requires_grad_())
        arrays.pop(y.data_ptr(), None)
        return sum(arrays.values()) / len(self.x)


BACKENDS = {"tensorflow": TensorFlow, "jax": JAX, "torch": PyTorch}


def serve(backend, pipe, elements, dtype):
    """Measures what the parent asks for until it hangs up: seconds of one call, or bytes kept."""
    measured = BACKENDS[backend](elements, dtype)
    runs = {}
    with contextlib.suppress(EOFError):
        while True:
            passes, name, alpha, xla = question = pipe.recv()
            function = operator.neg if name == COPY else layer(name, alpha, dtype)
            if passes == "kept":
                pipe.send(measured.kept(function))
                continue
            if question not in runs:
                runs[question] = getattr(measured, passes)(function, xla)
                for _ in range(3):
                    runs[question]()
            begin = time.perf_counter()
            runs[question]()
            pipe.send(time.perf_counter() - begin)


def measure(dtype, elements, repeats):
    """Returns one row per case: seconds of every repeat, forward and both, and bytes kept."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            os.environ["KERAS_BACKEND"] = backend
            pipes[backend], theirs = context.Pipe()
            arguments = (backend, theirs, elements, dtype)
            context.Process(target=serve, args=arguments, daemon=True).start()

    def ask(backend, *question):
        pipes[backend].send(question)
        return pipes[backend].recv()

    rows = {
        (backend, *case): {"forward": [], "both": []}
        for backend in pipes
        for case in [(COPY, 0, False), *CASES[backend]]
    }
    for _ in tqdm.trange(repeats, desc=dtype, disable=None):
        for (backend, *case), row in rows.items():
            row["forward"].append(ask(backend, "forward", *case))
            if case[0] != COPY:
                row["both"].append(ask(backend, "both", *case))
    for (backend, *case), row in rows.items():
        if case[0] != COPY:
            row["kept"] = ask(backend, "kept", *case)
    return rows


def ratios(rows):
    """How many times as long as with its peer both passes take, for each case."""
    medians = {key: statistics.median(row["both"]) for key, row in rows.items() if row["both"]}
    return {
        (backend, name, alpha, xla): seconds
        / medians[backend, "torch.nn" if backend == "torch" else "keras", alpha, xla]
        for (backend, name, alpha, xla), seconds in medians.items()
    }


def earlier_ratios(dtype, commit):
    """The ratios of the last recorded run with `dtype` of another commit."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    for record in map(json.loads, reversed(lines)):
        if record["dtype"] == dtype and record["commit"] != commit:
            return ratios({tuple(row[name] for name in CASE): row for row in record["rows"]})
    return {}


def report(dtype, rows, elements, before):
    fastest_copy = {key[0]: min(row["forward"]) for key, row in rows.items() if key[1] == COPY}
    to_peer = ratios(rows)
    print(f"\n{elements:,} elements of {dtype}; milliseconds: median [min, max]")
    print(
        f"{'backend':<11}{'XLA':<5}{'layer':<21}{'alpha':>5}  {'forward':<20}"
        f"{'forward + backward':<22}{'to limit':>9}{'to peer':>9}{'before':>9}{'bytes kept':>12}"
    )
    for key, row in rows.items():
        backend, name, alpha, xla = key
        line = f"{backend:<11}{'on' if xla else '':<5}{name:<21}{alpha or '':>5}  "
        line += f"{spread(row['forward']):<20}{spread(row['both']):<22}"
        if row["both"]:
            # Forward reads and writes once; backward reads twice and writes once.
            limit = 2.5 * fastest_copy[backend]
            line += f"{statistics.median(row['both']) / limit:>8.2f}x{to_peer[key]:>8.2f}x"
            line += f"{before[key]:>8.2f}x" if key in before else f"{'':>9}"
            line += f"{row['kept']:>12.1f}"
        print(line)


def spread(seconds):
    if not seconds:
        return ""
    milliseconds = [1e3 * s for s in seconds]
    return (
        f"{statistics.median(milliseconds):6.1f} [{min(milliseconds):.1f}, {max(milliseconds):.1f}]"
    )


def main():
    # Keeps freed memory in the process, so that no backend pays for getting it back.
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # the processes share a GPU
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=2**25, help="size of the tensor")
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each case")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--smoke", action="store_true", help="print the JSON lines, append nothing")
    arguments = parser.parse_args()

    os.environ["KERAS_BACKEND"] = next(name for name in BACKENDS if importlib.util.find_spec(name))
    from keras_elu import environment

    description = environment.describe()
    for dtype in arguments.dtypes:
        rows = measure(dtype, arguments.elements, arguments.repeats)
        before = earlier_ratios(dtype, description["commit"])
        report(dtype, rows, arguments.elements, before)
        record = description | {
            "benchmark": "layers",
            "dtype": dtype,
            "elements": arguments.elements,
            "rows": [dict(zip(CASE, key, strict=True)) | row for key, row in rows.items()],
        }
        if arguments.smoke:
            print(json.dumps(record))
        else:
            environment.append(RESULTS, record)


if __name__ == "__main__":
    main()
