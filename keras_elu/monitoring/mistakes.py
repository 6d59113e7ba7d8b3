"""The confusion matrix of a classifier, and its worst mistakes."""

import dataclasses
import heapq

import keras
import numpy as np
import tensorflow as tf

WORST = 16


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """The mistakes of a classifier on a data set.

    Args:
        counts: (classes, classes). How often the class of the row was predicted as that of the
            column.
        images: The misclassified images with the greatest loss, the worst first.
        captions: The true class, the predicted class and its probability for each of the images.
    """

    counts: np.ndarray
    images: np.ndarray
    captions: list[str]


def classifies(model: keras.Model, dataset: tf.data.Dataset) -> bool:
    """Whether the model maps images to class logits, and the data set has labels for them."""
    spec = dataset.element_spec
    if len(model.outputs) != 1 or not isinstance(spec, tuple) or len(spec) != 2:
        return False
    images, labels = spec
    if images.shape.rank != 4 or len(model.outputs[0].shape) != 2:
        return False
    one_hot = labels.shape.rank == 2 and labels.shape[1] == model.outputs[0].shape[1]
    return one_hot or (labels.shape.rank == 1 and labels.dtype.is_integer)


def find(model: keras.Model, dataset: tf.data.Dataset) -> Mistakes:
    """Evaluates a data set once, on one device.

    Args:
        model: A model with logits of shape (batch, classes) as its output.
        dataset: Batches of images of one size with integer or one-hot labels.
    """
    classes = model.outputs[0].shape[-1]
    counts = np.zeros((classes, classes), np.int64)
    worst = []  # a heap of (loss, -image number, caption, image)
    seen = 0
    for images, labels in dataset:
        if labels.shape.rank == 2:
            labels = tf.argmax(labels, 1)
        logits = tf.cast(model(images, training=False), "float32")
        probabilities = tf.nn.softmax(logits).numpy()
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()
        labels, predicted = labels.numpy(), probabilities.argmax(1)
        np.add.at(counts, (labels, predicted), 1)
        wrong = np.flatnonzero(labels != predicted)
        for row in wrong[np.argsort(-losses[wrong], kind="stable")[:WORST]]:
            caption = f"{labels[row]} as {predicted[row]}, {probabilities[row, predicted[row]]:.0%}"
            one = (float(losses[row]), -(seen + int(row)), caption, images[int(row)].numpy())
            if len(worst) < WORST:
                heapq.heappush(worst, one)
            else:
                heapq.heappushpop(worst, one)
        seen += len(labels)
    worst.sort(key=lambda one: one[:2], reverse=True)
    images = np.stack([image for *_, image in worst]) if worst else np.zeros((0,))
    return Mistakes(counts, images, [caption for _, _, caption, _ in worst])
