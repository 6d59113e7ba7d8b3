"""Predicting: the accuracy of the run from files, every format, and one sentence for bad input."""

import csv
import functools
import io
import json
import os
import shutil
import subprocess
import sys

import hypothesis
import keras
import numpy as np
import PIL.Image
import pytest
import simplejpeg
from hypothesis import strategies as st

import keras_elu
from keras_elu import predict
from keras_elu.data import crops, decoding, jpeg
from keras_elu.prepare import images

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def here(tmp_path, monkeypatch, digits_run, digit_pictures):
    """A folder with a run, pictures, and things that are neither."""
    folder, _ = digit_pictures
    (tmp_path / "run").symlink_to(digits_run)
    (tmp_path / "pictures").mkdir()
    for name in ("0000.png", "0001.png", "0002.png"):
        shutil.copy(folder / name, tmp_path / "pictures" / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "text.keras").write_text("no model")
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, keras.layers.Flatten()(inputs)).save(tmp_path / "plain.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def said(*arguments, capsys):
    """The exit code, the lines on stdout, and those on stderr."""
    code = predict.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


@pytest.mark.parametrize("name", ["model.keras", "best.keras"])
def test_png_files_of_the_test_set_give_exactly_the_accuracy_of_the_run(
    name, digits_run, digit_pictures, tmp_path
):
    folder, labels = digit_pictures
    file = tmp_path / "found.json"
    assert predict.main([str(digits_run / name), str(folder), "--json", str(file)]) == 0
    found = [entry["classes"][0]["class"] for entry in json.loads(file.read_text())]
    right = np.mean([int(a) == b for a, b in zip(found, labels, strict=True)])
    result = json.loads((digits_run / "result.json").read_text())
    result = result if name == "model.keras" else result["best"]
    assert round(right * len(labels)) == round(result["test"]["accuracy"] * len(labels))


def test_the_probabilities_are_the_softmax_of_the_saved_model(here, digits_run, capsys):
    code, out, _ = said("run", "pictures", "--top", 10, "--csv", "a.csv", capsys=capsys)
    assert (code, out) == (0, ["--csv: the predictions are in a.csv."])
    rows = list(csv.reader((here / "a.csv").read_text().splitlines()))
    assert rows[0][:5] == ["path", "class", "probability", "class_2", "probability_2"]
    assert [row[0] for row in rows[1:]] == [f"pictures/000{n}.png" for n in range(3)]
    model = keras.saving.load_model(digits_run / "model.keras")
    pixels = np.stack([np.asarray(PIL.Image.open(row[0]))[..., None] for row in rows[1:]])
    logits = model.predict(pixels, verbose=0).astype("float64")
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row, shares in zip(rows[1:], expected, strict=True):
        found = dict(zip(row[1::2], map(float, row[2::2]), strict=True))
        assert [*found.values()] == sorted(found.values(), reverse=True)
        np.testing.assert_allclose([found[n] for n in model.class_names], shares, atol=1e-6)


def test_damaged_pictures_are_named_and_the_others_predicted(here, capsys):
    (here / "pictures" / "0001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, _, err = said("run", "pictures", "text.txt", "--json", "a.json", capsys=capsys)
    assert code == 1
    assert err[0] == "pictures/0001.png: it is truncated: the chunk of its end is missing"
    assert err[1].startswith("text.txt: it is neither a JPEG nor a PNG")
    assert err[2] == "error: 2 of 4 files are no intact picture."
    found = json.loads((here / "a.json").read_text())
    assert [list(entry) for entry in found] == [
        ["path", "classes"],
        ["path", "error"],
        ["path", "classes"],
        ["path", "error"],
    ]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG"])
def test_a_picture_gives_the_same_in_every_file_format(kind, here, digits_run):
    pixels = np.full((8, 8, 3), 128, "uint8")
    options = {"lossless": True} if kind == "WEBP" else {}
    PIL.Image.fromarray(pixels).save(here / "picture", kind, **options)
    read = predict.Reader(keras.saving.load_model(digits_run / "model.keras"))
    np.testing.assert_array_equal(read(here / "picture"), pixels[..., :1])


def test_a_photograph_is_turned_upright(here):
    x = keras.Input((64, 64, 3))
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras_elu.models.Classifier(x, y, class_names=["a", "b"], image_size=(64, 64), crop=1)
    pixels = np.zeros((64, 64, 3), "uint8")
    pixels[:32] = 255
    PIL.Image.fromarray(pixels).save(here / "up.jpg", quality=100)
    turned = PIL.Image.Exif()
    turned[0x0112] = 3
    PIL.Image.fromarray(pixels[::-1]).save(here / "down.jpg", quality=100, exif=turned)
    read = predict.Reader(model)
    np.testing.assert_allclose(read(here / "up.jpg"), read(here / "down.jpg").astype(int), atol=4)


def test_a_photograph_is_cropped_as_in_evaluation(here):
    x = keras.Input((32, 32, 3))
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras_elu.models.Classifier(
        x, y, class_names=["a", "b"], image_size=(32, 32), crop=crops.SHARE
    )
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), "uint8")
    (here / "a.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=95))
    decoded = simplejpeg.decode_jpeg((here / "a.jpg").read_bytes())
    top, left, height, width = crops.central(48, 40)
    import cv2

    expected = cv2.resize(decoded[top : top + height, left : left + width], (32, 32))
    np.testing.assert_array_equal(predict.Reader(model)(here / "a.jpg"), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["ordinary", "PNG", "turned", "CMYK"])
def test_a_large_picture_gives_what_evaluation_makes_of_the_prepared_one(kind, channels, here):
    x = keras.Input((24, 24, channels))
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    size = {"image_size": (24, 24), "crop": crops.SHARE}
    model = keras_elu.models.Classifier(x, y, class_names=["a", "b"], **size)
    # Fine stripes: whoever reduces them without a filter shows it.
    columns = np.random.default_rng(0).integers(0, 256, (1, 320, 3), "uint8")
    picture = PIL.Image.fromarray(np.repeat(columns, 240, axis=0))
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    options = {
        "ordinary": {"format": "JPEG"},
        "PNG": {"format": "PNG"},
        "turned": {"format": "JPEG", "exif": turned},
        "CMYK": {"format": "JPEG"},
    }
    picture = picture.convert("CMYK") if kind == "CMYK" else picture
    picture.save(here / "picture", **options[kind])
    stored = images.prepare((here / "picture").read_bytes()).image
    central = functools.partial(crops.central, share=crops.SHARE)
    wanted = np.empty((24, 24, channels), np.uint8)
    decoder = decoding.Decoder(wanted.shape, central, mirror=False)
    decoder.fill(wanted, stored, np.zeros(decoding.DRAWS))
    found = predict.Reader(model)(here / "picture")
    np.testing.assert_allclose(found, wanted.astype(int), atol=2 if kind == "CMYK" else 0)


def test_a_folder_stands_for_all_files_below_it_also_behind_links(here):
    (here / "elsewhere" / "deeper").mkdir(parents=True)
    (here / "elsewhere" / "deeper" / "a.png").touch()
    (here / "elsewhere" / ".hidden").mkdir()
    (here / "elsewhere" / ".hidden" / "b.png").touch()
    (here / "pictures" / "0000").symlink_to(here / "elsewhere")
    (here / "pictures" / "around").symlink_to(here)
    (here / "pictures" / "0003.png").symlink_to(here / "nowhere")
    found = [str(path) for path in predict.find_pictures([here / "pictures" / "0000"])]
    assert found == [str(here / "pictures" / "0000" / "deeper" / "a.png")]
    names = [p.name for p in predict.find_pictures([here / "pictures"]) if "around" not in p.parts]
    assert names == ["a.png", "0000.png", "0001.png", "0002.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads all folders")
def test_a_folder_that_cannot_be_read_is_named(here, capsys):
    (here / "pictures" / "closed").mkdir(mode=0)
    code, _, err = said("run", "pictures", capsys=capsys)
    (here / "pictures" / "closed").chmod(0o700)
    assert (code, err) == (2, ["error: pictures/closed cannot be read (Permission denied)."])


REFUSED = {
    "nothing": ([], "required"),
    "no picture": (["run"], "required"),
    "no such run": (["nowhere", "pictures"], "nowhere does not exist"),
    "an empty folder as the run": (["empty", "pictures"], "it holds no model.keras"),
    "an incomplete run": (["unfinished", "pictures"], "complete the run first"),
    "text as the model": (["text.txt", "pictures"], "neither the folder of a run nor a .keras"),
    "text in a .keras": (["text.keras", "pictures"], "cannot be loaded"),
    "a model without classes": (["plain.keras", "pictures"], "names no classes"),
    "a folder of pictures as the run": (["pictures", "pictures"], "holds no model.keras"),
    "no such picture": (["run", "nowhere.png"], "nowhere.png does not exist"),
    "an empty folder": (["run", "empty"], "empty holds no files"),
    "an empty path": (["run", ""], "cannot be a path"),
    "a null character": (["run", "a\0b"], "cannot be a path"),
    "an empty model": (["", "pictures"], "cannot be a path"),
    "--top 0": (["run", "pictures", "--top", "0"], "--top must be from 1 to"),
    "--top 11": (["run", "pictures", "--top", "11"], "the number of classes, 10, not 11"),
    "--top -1": (["run", "pictures", "--top", "-1"], "--top"),
    "--top many": (["run", "pictures", "--top", "many"], "--top"),
    "--top 1.5": (["run", "pictures", "--top", "1.5"], "--top"),
    "--csv without a file": (["run", "pictures", "--csv"], "--csv"),
    "--csv a folder": (["run", "pictures", "--csv", "empty"], "empty is a folder"),
    "--csv nowhere": (["run", "pictures", "--csv", "no/a.csv"], "does not exist: make it first"),
    "--csv below a file": (["run", "pictures", "--csv", "text.txt/a"], "does not exist"),
    "--csv a picture": (
        ["run", "pictures", "--csv", "pictures/0000.png"],
        "is one of the pictures",
    ),
    "--csv too long": (["run", "pictures", "--csv", "x" * 300], "cannot be written"),
    "--csv empty": (["run", "pictures", "--csv", ""], "cannot be a path"),
    "--json a folder": (["run", "pictures", "--json", "pictures"], "pictures is a folder"),
    "--json the root": (["run", "pictures", "--json", "/"], "is a folder"),
    "one file for both": (["run", "pictures", "--csv", "a", "--json", "a"], "name two files"),
    "an unknown flag": (["run", "pictures", "--tops", "2"], "unrecognized arguments: --tops"),
    "an abbreviation": (["run", "pictures", "--cs", "a"], "unrecognized arguments"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_bad_input_gets_one_sentence_and_writes_nothing(arguments, expected, here, capsys):
    before = state(here)
    code, out, err = said(*arguments, capsys=capsys)
    assert (code, out) == (2, [])
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert expected in err[0]
    assert state(here) == before


DAMAGE = {
    "zeros within the data": lambda content: content[:4000] + bytes(512) + content[4512:],
    "zeros below the crop": lambda content: content[:-300] + bytes(200) + content[-100:],
    "no end": lambda content: content[:-2],
    "a lost end": lambda content: content[:-300],
}


@pytest.mark.parametrize("exif", [{}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_jpeg_that_preparing_refuses_is_named(damage, exif, here, reader):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), "uint8")
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=90, **exif)
    (here / "intact.jpg").write_bytes(file.getvalue())
    (here / "damaged.jpg").write_bytes(damage(file.getvalue()))
    with pytest.raises(jpeg.Damaged):
        images.prepare((here / "damaged.jpg").read_bytes())
    for read in reader:
        assert read(here / "intact.jpg").shape == (8, 8, 3)
        assert isinstance(read(here / "damaged.jpg"), str)


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_last_batch_of_any_size_and_batches_of_damaged_files_keep_their_order(count, here):
    model = keras.saving.load_model(here / "run" / "model.keras")
    paths = [here / "pictures" / "0000.png", here / "text.txt", here / "text.txt"] * 2
    found = list(predict.predict(model, paths[:count], batch_size=2))
    assert [each.path for each in found] == paths[:count]
    assert [bool(each.error) for each in found] == [False, True, True, False, True][:count]
    assert len({each.classes for each in found if not each.error}) == 1


@pytest.fixture(scope="module")
def reader():
    x = keras.Input((8, 8, 3))
    y = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    names = {"class_names": ["a", "b"], "image_size": (8, 8)}
    return [
        predict.Reader(keras_elu.models.Classifier(x, y, crop=crop, **names))
        for crop in (None, crops.SHARE)
    ]


def encoded(kind):
    file = io.BytesIO()
    PIL.Image.fromarray(np.arange(300, dtype="uint8").reshape(10, 10, 3)).save(file, kind)
    return file.getvalue()


PICTURES = [encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")]


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.binary(max_size=50)
    | st.builds(lambda content, end: content[:end], st.sampled_from(PICTURES), st.integers(0, 300))
    | st.builds(
        lambda content, at, byte: (
            content[: at % len(content)] + byte + content[at % len(content) + 1 :]
        ),
        st.sampled_from(PICTURES),
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=1),
    )
)
def test_any_file_is_a_picture_or_has_a_reason(reader, tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for read in reader:
        found = read(path)
        if isinstance(found, str):
            assert found
            assert "\n" not in found
        else:
            assert (found.shape, found.dtype) == ((8, 8, 3), np.uint8)


@pytest.mark.slow
def test_the_command_runs_in_a_process_and_survives_names_of_any_bytes(here):
    odd = os.fsdecode(b"pictures/\xff\n.png")
    shutil.copy("pictures/0000.png", odd)
    command = [sys.executable, "-m", "keras_elu.predict", "run/model.keras", "pictures"]
    done = subprocess.run(
        command, capture_output=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"%") == 4


@pytest.mark.slow
def test_memory_is_flat_over_the_pictures(here, digits_run):
    """Ten times as many pictures need at most 20 MB more."""
    code = """
import resource, sys, pathlib
from keras_elu import predict
from keras_elu.training import saved
model = saved.load(pathlib.Path(sys.argv[1]))
path = pathlib.Path("photo.jpg")
peaks = []
for count in (300, 3000):
    for _ in predict.predict(model, [path] * count):
        pass
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""
    pixels = np.random.default_rng(0).integers(0, 256, (375, 500, 3), "uint8")
    (here / "photo.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    command = [sys.executable, "-c", code, str(digits_run / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # kilobytes
