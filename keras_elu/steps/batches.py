"""Global batches, split between the replicas."""

import tensorflow as tf

from keras_elu.data.datasets import ByWorker


def cut(dataset: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Splits each batch into one part for every replica of this worker.

    With several replicas, a part is a pair as returned by `part`. From a `ByWorker` data set, each
    worker reads only its own rows.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return dataset
    here = replicas // context.num_input_pipelines
    first = context.input_pipeline_id * here
    if here < replicas and isinstance(dataset, ByWorker):
        own = dataset.of_worker(context.input_pipeline_id, context.num_input_pipelines)

        def own_parts(rows, batch):
            replicas_here = tf.data.Dataset.range(here)
            return replicas_here.map(lambda number: part(batch, number, here, rows))

        return own.flat_map(own_parts).prefetch(here)

    def parts(*batch):
        batch = batch if isinstance(dataset.element_spec, tuple) else batch[0]
        numbers = tf.data.Dataset.range(first, first + here)
        return numbers.map(lambda replica: part(batch, replica, replicas))

    return dataset.flat_map(parts).prefetch(here)


def part(batch, replica: tf.Tensor, replicas: int, rows: tf.Tensor | None = None):
    """Returns the number of rows of one replica, and the rows.

    Out of n rows, replica r of R gets rows n * r // R to n * (r + 1) // R. A replica without rows
    gets some row as a placeholder, and the number 0.

    Args:
        batch: Nested tensors with the same first dimension.
        replica: Number of the replica.
        replicas: Number of replicas.
        rows: Number of rows to split; None: all.
    """
    size = tf.nest.flatten(batch)[0].shape[0]
    even = size // replicas if rows is None and size is not None and size % replicas == 0 else None
    rows = tf.shape(tf.nest.flatten(batch)[0])[0] if rows is None else rows
    rows, replica = tf.cast(rows, "int64"), tf.cast(replica, "int64")
    begin, end = rows * replica // replicas, rows * (replica + 1) // replicas

    def take(tensor):
        begins = tf.minimum(begin, tf.maximum(rows, 1) - 1)
        taken = tensor[begins : tf.maximum(end, begins + 1)]
        if even is not None:
            return tf.ensure_shape(taken, [even, *tensor.shape[1:]])
        # Hides the number of rows, which TensorFlow would infer from the constant `replica`.
        return tf.compat.v1.placeholder_with_default(taken, [None, *tensor.shape[1:]])

    return end - begin, tf.nest.map_structure(take, batch)
