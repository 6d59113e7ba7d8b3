"""The recipe that learns CIFAR in a few epochs."""

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional

from keras_elu import data, training
from keras_elu.recipes import fast_cifar
from keras_elu.training.config import resolve
from tests.recipes.small import config

SMALL = {"widths": "4,6,8", "precision": "float32"}


def images(side=8, examples=40, classes=10):
    return data.synthetic(image_shape=(side, side, 3), classes=classes, examples=examples)


def batches(own, dataset, start, count):
    pipeline, *_ = fast_cifar.datasets(own, dataset, start)
    return [(x.numpy(), y.numpy()) for x, y in pipeline.take(count)]


def learning_rates(steps, **changes):
    schedule = training.learning_rate(config(fast_cifar, **changes), steps)
    return [float(schedule(step)) for step in range(steps + 1)]


def test_the_learning_rate_rises_for_a_quarter_of_the_steps_and_falls_to_zero():
    rise = np.linspace(0.2, 1, 21)
    fall = np.linspace(1, 0, 61)
    expected = 1.5 * np.concatenate([rise, fall[1:]])
    found = learning_rates(80, dataset="cifar10")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found[-1] == 0
    constant = config(fast_cifar, dataset="cifar10", learning_rate_schedule="constant")
    assert training.learning_rate(constant, 80) == 1.5


def test_an_image_is_mirrored_in_every_other_epoch():
    dataset = images()
    own = config(fast_cifar, shift=0)
    originals = {x.tobytes(): number for number, x in enumerate(dataset._arrays["train"][0])}
    mirrored = {x[:, ::-1].tobytes(): n for n, x in enumerate(dataset._arrays["train"][0])}
    epochs = []
    for epoch in range(4):
        seen = [x for x, _ in batches(own, dataset, 5 * epoch, 5)]
        rows = [row.tobytes() for row in np.concatenate(seen)]
        straight = {originals[row] for row in rows if row in originals}
        turned = {mirrored[row] for row in rows if row in mirrored}
        assert straight | turned == set(range(40))
        assert 8 < len(straight) < 32
        epochs.append((straight, turned))
    assert epochs[0] == epochs[1][::-1] == epochs[2] == epochs[3][::-1]
    other, *_ = batches(config(fast_cifar, shift=0, seed=1), dataset, 0, 1)
    assert {row.tobytes() for row in other[0]} != {row.tobytes() for row in seen[0]}


def test_digits_are_never_mirrored(data_dir):
    dataset = data.load("digits", data_dir=data_dir)
    known = {x.tobytes() for x in dataset._arrays["train"][0]}
    for augmentation in ("alternate", "mirror"):
        own = config(fast_cifar, dataset="digits", shift=0, augmentation=augmentation)
        for x, _ in batches(own, dataset, 0, 3):
            assert {row.tobytes() for row in x} <= known


@pytest.mark.parametrize("augmentation", ["alternate", "mirror"])
def test_a_batch_is_the_same_from_any_start(augmentation):
    dataset, own = images(), config(fast_cifar, augmentation=augmentation)
    whole = batches(own, dataset, 0, 12)
    for start in (1, 4, 5, 11):
        for (x, y), (other, label) in zip(
            batches(own, dataset, start, 1), whole[start:], strict=False
        ):
            assert (x == other).all()
            assert (y == label).all()
    assert whole[0][0].dtype == "uint8"
    assert any((whole[0][0] != batches(config(fast_cifar, seed=1), dataset, 0, 1)[0][0]).ravel())


def test_mirroring_flips_half_of_each_batch():
    dataset = images(examples=400)
    own = config(fast_cifar, shift=0, augmentation="mirror", batch_size=400)
    known = {x.tobytes() for x in dataset._arrays["train"][0]}
    counts = [sum(row.tobytes() in known for row in x) for x, _ in batches(own, dataset, 0, 2)]
    assert all(140 < count < 260 for count in counts)
    assert counts[0] != counts[1]


def model_and_batches(steps, **changes):
    own = config(fast_cifar, **SMALL | changes)
    dataset = images()
    keras.utils.set_random_seed(0)
    model, arguments = fast_cifar.build(own, dataset, steps)
    model.compile(**arguments)
    return model, batches(own, dataset, 0, steps)


def test_training_is_that_of_pytorch():
    """Three steps with a constant learning rate, at which momentum means the same in both."""
    model, three = model_and_batches(
        3,
        learning_rate_schedule="constant",
        learning_rate=0.05,
        bias_learning_rate=8.0,
        weight_decay=0.01,
        label_smoothing=0.3,
        temperature=2.0,
        gain=2.0,
    )
    variables = {w.path: keras.ops.convert_to_numpy(w) for w in model.trainable_weights}
    weights = {
        k: torch.tensor(v.astype("float64"), requires_grad=True) for k, v in variables.items()
    }
    stem = model.get_layer("patch_whitening")
    filters, offset = (
        torch.tensor(keras.ops.convert_to_numpy(weight)).double()
        for weight in (stem.kernel, stem.offset)
    )
    groups = [
        {
            "params": [w],
            "lr": 0.05 * (8 if "beta" in k else 1),
            "weight_decay": 0.01 * ("kernel" in k),
        }
        for k, w in weights.items()
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.85, nesterov=True)

    def network(x):
        x = functional.conv2d(x, filters.permute(3, 2, 0, 1))
        x = x + (offset + weights["patch_whitening/bias"])[:, None, None]
        x = functional.elu(2 * x)
        for number in range(1, 7):
            kernel = weights[f"conv_{number}/kernel"].permute(3, 2, 0, 1)
            x = functional.conv2d(x, kernel, padding=1)
            if number % 2 and x.shape[-1] > 1:
                x = functional.max_pool2d(x, 2)
            bias = weights[f"batch_norm_{number}/beta"]
            x = functional.batch_norm(x, None, None, bias=bias, training=True, eps=1e-5)
            x = functional.elu(2 * x)
        return x.amax(dim=(2, 3)) / (2 * 2) @ weights["logits/kernel"]

    for x, y in three:
        model.train_on_batch(x, y)
        optimizer.zero_grad()
        logits = network(torch.tensor(x.astype("float64")).permute(0, 3, 1, 2))
        labels = torch.tensor(y.argmax(axis=1))
        functional.cross_entropy(logits, labels, label_smoothing=0.3).backward()
        optimizer.step()
    for weight in model.trainable_weights:
        expected = weights[weight.path].detach().numpy()
        found = keras.ops.convert_to_numpy(weight)
        moved = abs(expected - variables[weight.path]).max()
        np.testing.assert_allclose(found, expected, atol=2e-3 * moved, err_msg=weight.path)


def test_the_saved_model_gives_the_logits_for_bytes(tmp_path):
    dataset, own = images(), config(fast_cifar, **SMALL)
    model, arguments = fast_cifar.build(own, dataset, 4)
    model.compile(**arguments)
    model.fit(fast_cifar.datasets(own, dataset)[0], steps_per_epoch=4, verbose=0, shuffle=False)
    fast_cifar.self_contained(own, dataset, model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert loaded.class_names == dataset.class_names
    (x, _), *_ = batches(own, dataset, 0, 1)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_shift_out_of_the_image_is_refused():
    with pytest.raises(ValueError, match="--shift 8 moves images of 8 pixels away: give at most 7"):
        fast_cifar.datasets(config(fast_cifar, shift=8), images())


@pytest.mark.parametrize("widths", ["64,x", "64,0", "-1", "64;2"])
def test_wrong_widths_are_refused(widths):
    with pytest.raises(ValueError, match="--widths must be positive whole numbers, such as 64,256"):
        fast_cifar.build(config(fast_cifar, widths=widths), images(), 1)


def test_each_data_set_has_its_network():
    def network(dataset):
        own = resolve(fast_cifar, fast_cifar.Config(dataset=dataset))
        return own.widths, own.convolutions, own.epochs

    assert network("cifar10") == ("64,256,384", 2, 18)
    assert network("cifar100") == ("128,384,768", 3, 18)
