import numpy as np
import pytest
import tensorflow as tf

from keras_elu.data.datasets import ByWorker
from keras_elu.steps.batches import cut

WORKERS, REPLICAS = 2, 4


def parts(dataset, worker):
    """Returns the rows of each replica of a worker, without placeholders."""
    context = tf.distribute.InputContext(WORKERS, worker, REPLICAS)
    return [(int(count), x.numpy(), y.numpy()) for count, (x, y) in cut(dataset, context)]


def whole(sizes):
    """Batches of numbers and their squares."""
    numbers = tf.data.Dataset.range(sum(sizes)).map(lambda n: (n, n * n))
    return numbers.batch(sizes[0])


def of_worker(sizes, spare):
    """The same batches, of which each worker makes its own rows, or else a placeholder."""

    def make(number, workers):
        def rows():
            first = 0
            for size in sizes:
                begin, end = size * number // workers, size * (number + 1) // workers
                own = np.arange(first + begin, first + end) if end > begin else np.array([spare])
                yield end - begin, (own, own * own)
                first += size

        spec = tf.TensorSpec([None], tf.int64)
        return tf.data.Dataset.from_generator(
            rows, output_signature=(tf.TensorSpec([], tf.int64), (spec, spec))
        )

    return make


@pytest.mark.parametrize("sizes", [[8, 8], [8, 3], [9, 9, 1], [7, 2]])
def test_a_data_set_that_can_makes_the_rows_of_a_worker_alone(sizes):
    def refuse(*_):
        raise AssertionError("the rows of all workers are made")

    alone = whole(sizes).map(lambda x, y: tf.numpy_function(refuse, [x, y], [tf.int64] * 2))
    alone = alone.map(lambda x, y: tuple(tf.ensure_shape(t, [None]) for t in (x, y)))
    alone = ByWorker(alone, of_worker(sizes, spare=99))
    seen = []
    for worker in range(WORKERS):
        own = parts(alone, worker)
        assert len(own) == len(sizes) * REPLICAS // WORKERS
        for count, x, y in own:
            assert len(x) >= 1  # no replica runs an empty batch
            np.testing.assert_array_equal(y, x * x)
            seen += x[:count].tolist()
    assert sorted(seen) == list(range(sum(sizes)))
    of_all = [n for w in range(WORKERS) for c, x, _ in parts(whole(sizes), w) for n in x[:c]]
    assert sorted(of_all) == sorted(seen)


@pytest.mark.parametrize(
    "transform",
    [
        lambda dataset: dataset.map(lambda x, y: (x[::-1], y[::-1])),
        lambda dataset: dataset.prefetch(1),
        lambda dataset: dataset.skip(1),
        lambda dataset: dataset.take(1),
        lambda dataset: dataset.skip(1).map(lambda x, y: (x[::-1], y[::-1])),
    ],
)
def test_a_transformation_sees_whole_batches_whichever_worker_makes_them(transform):
    sizes = [8, 8]
    divided = ByWorker(whole(sizes), of_worker(sizes, spare=99))
    for worker in range(WORKERS):
        expected = parts(transform(whole(sizes)), worker)
        got = parts(transform(divided), worker)
        for (count, *rows), (expected_count, *expected_rows) in zip(got, expected, strict=True):
            assert count == expected_count
            np.testing.assert_array_equal(rows, expected_rows)
