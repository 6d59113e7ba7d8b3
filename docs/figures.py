"""Draws the pictures of the README from the results in docs/results.

python docs/figures.py
"""

import csv
import pathlib
import statistics
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_elu
from keras_elu import commands

try:
    commands.require("matplotlib", extra="plots")
    import matplotlib.pyplot as plt
except ValueError as error:
    sys.exit(f"error: {error}")

DOCS = pathlib.Path(__file__).parent
COLOURS = {"elu": "#d1495b", "leaky_relu": "#edae49", "relu": "#00798c"}


def gradient():
    """Draws the bfloat16 gradient of Keras's layer, of this package's, and the exact one."""
    x = tf.cast(tf.linspace(-12.0, -3.0, 4000), "bfloat16")
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    exact = np.exp(x.numpy().astype(np.float64))
    axes.plot(x, exact, color="black", linewidth=4, alpha=0.25, label="exact")
    for layer, name, colour in (
        (keras.layers.ELU, "keras.layers.ELU", "#00798c"),
        (keras_elu.layers.ELU, "keras_elu.layers.ELU", "#d1495b"),
    ):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(dtype="bfloat16")(x)
        slope = tf.cast(tape.gradient(y, x), "float32").numpy()
        axes.plot(x, np.where(slope > 0, slope, np.nan), color=colour, linewidth=1.2, label=name)
        if (slope == 0).any():
            edge = float(tf.reduce_max(tf.cast(x, "float32")[slope == 0]))
            axes.axvspan(-12, edge, color=colour, alpha=0.12)
            axes.text(-11.8, 0.012, f"{name}: exactly 0 below {edge:.1f}", color=colour)
    axes.set(
        yscale="log",
        xlim=(-12, -3),
        xlabel="input",
        ylabel="gradient",
        title="Gradient of ELU in bfloat16, every representable input",
    )
    axes.legend(loc="lower right")
    figure.savefig(DOCS / "gradient.png", dpi=150)


def curves():
    """Draws the training loss of the paper's MNIST network: mean and range over the seeds."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for activation, colour in COLOURS.items():
        runs = [read(path) for path in sorted((DOCS / "results").glob(f"mnist-{activation}-*.csv"))]
        epochs = range(1, len(runs[0]) + 1)
        middle = [statistics.mean(values) for values in zip(*runs, strict=True)]
        axes.plot(epochs, middle, color=colour, label=activation)
        axes.fill_between(
            epochs,
            [min(values) for values in zip(*runs, strict=True)],
            [max(values) for values in zip(*runs, strict=True)],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    axes.set(
        yscale="log",
        xlabel="epoch",
        ylabel="training loss",
        title=f"MNIST, 8 layers of 128 units, {len(runs)} seeds: mean and range",
    )
    axes.legend()
    figure.savefig(DOCS / "mnist.png", dpi=150)


def activity():
    """Draws the mean activation of each layer of the same network: mean and range over the seeds.

    docs/results/mnist-activity.csv has the last `activation_mean` and `saturated_share` of
    `trainers/mnist.py --learning_rate 0.01 --epochs 6 --histograms_every 100 --activation ... `.
    """
    with (DOCS / "results" / "mnist-activity.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    layers = sorted({int(row["layer"]) for row in rows})
    for activation, colour in COLOURS.items():
        of = [row for row in rows if row["activation"] == activation]
        values = [[float(row["mean"]) for row in of if int(row["layer"]) == n] for n in layers]
        middle = [statistics.mean(column) for column in values]
        axes.plot(layers, middle, "o-", color=colour, label=activation)
        low, high = [min(column) for column in values], [max(column) for column in values]
        axes.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
    seeds = len({row["seed"] for row in rows})
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(
        xlabel="layer",
        ylabel="mean activation",
        title=f"Mean activation of each layer on MNIST after {int(rows[0]['step']):,} steps, "
        f"{seeds} seeds",
    )
    axes.legend()
    figure.savefig(DOCS / "activity.png", dpi=150)


def read(path):
    with path.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    gradient()
    curves()
    activity()
