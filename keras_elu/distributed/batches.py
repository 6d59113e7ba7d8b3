"""Global batches, cut for the replicas."""

import tensorflow as tf

from keras_elu.distributed import step


def cut(dataset: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Cuts each batch into one part for every replica that this worker feeds.

    Of n rows, replica r of R gets rows n * r // R up to n * (r + 1) // R. On several replicas a
    part is a pair: the number of its rows that count, and the rows; where there would be none, the
    first row stands in and the number is 0. A data set that can makes the rows of this worker only.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return dataset
    here = replicas // context.num_input_pipelines
    first = context.input_pipeline_id * here
    rows = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    even = rows // replicas if rows is not None and rows % replicas == 0 else None

    def part(replica, replicas, rows, batch):
        rows = tf.cast(rows, "int64")
        begin, end = rows * replica // replicas, rows * (replica + 1) // replicas
        count = end - begin

        def take(tensor):
            begins = tf.minimum(begin, tf.maximum(rows, 1) - 1)
            taken = tensor[begins : tf.maximum(end, begins + 1)]
            return tf.ensure_shape(taken, [even, *tensor.shape[1:]])

        return count, tf.nest.map_structure(take, batch)

    def parts(*batch):
        batch = batch if isinstance(dataset.element_spec, tuple) else batch[0]
        numbers = tf.data.Dataset.range(first, first + here)
        rows = step.number_of_rows(batch)
        return numbers.map(lambda replica: part(replica, replicas, rows, batch))

    def own_parts(rows, batch):
        return tf.data.Dataset.range(here).map(lambda number: part(number, here, rows, batch))

    if here < replicas and hasattr(dataset, "of_worker"):
        own = dataset.of_worker(context.input_pipeline_id, context.num_input_pipelines)
        return own.flat_map(own_parts).prefetch(here)
    return dataset.flat_map(parts).prefetch(here)
