"""Formats that people have, orientation, and damage within a JPEG, judged against Pillow."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import sklearn.datasets

from keras_elu.data import jpeg
from keras_elu.prepare import __main__ as prepare
from keras_elu.prepare import damage, images

PHOTOGRAPHS = sklearn.datasets.load_sample_images().images  # two of 427 x 640
SMALL = np.ascontiguousarray(PHOTOGRAPHS[0][:90, :120])


def encoded(pixels, form, mode=None, **options):
    file, image = io.BytesIO(), PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def pixels_of(content):
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


FORMATS = {
    "WEBP": {"lossless": True},
    "BMP": {},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "PPM": {},
    "JPEG2000": {},
}


@pytest.mark.parametrize("form", FORMATS)
def test_other_formats_become_jpegs_of_the_same_pixels(form):
    content = encoded(SMALL, form, **FORMATS[form])
    prepared = images.prepare(content)
    assert prepared.converted == form
    assert PIL.Image.open(io.BytesIO(prepared.image)).format == "JPEG"
    assert np.abs(pixels_of(prepared.image) - pixels_of(content)).mean() < 2.5
    np.testing.assert_array_equal(images.prepare(content, 1024, raw=True).image, pixels_of(content))


def test_sixteen_bits_become_their_upper_eight():
    grey = SMALL[..., 0]
    content = encoded(grey.astype(np.uint16) * 256 + 77, "TIFF")
    prepared = images.prepare(content, 1024, raw=True)
    np.testing.assert_array_equal(prepared.image, np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_counts(form):
    file, first = io.BytesIO(), PIL.Image.fromarray(SMALL)
    others = [PIL.Image.fromarray(255 - SMALL), PIL.Image.fromarray(SMALL[::-1].copy())]
    options = {"lossless": True} if form == "WEBP" else {}
    first.save(file, form, save_all=True, append_images=others, **options)
    prepared = images.prepare(file.getvalue(), 1024, raw=True)
    assert prepared.converted == f"{form}, the first of 3 pictures"
    assert np.abs(prepared.image - SMALL.astype(int)).mean() < 12  # a GIF has 256 colours


UNREADABLE = {
    "float": (lambda: encoded(SMALL[..., 0].astype(np.float32), "TIFF"), "32 bits, in TIFF"),
    "cut": (lambda: encoded(SMALL, "WEBP")[:-9], "it is truncated"),
    "cut TIFF": (lambda: encoded(SMALL, "TIFF")[:2000], "it cannot be decoded"),
    "a film": (lambda: b"\0\0\0\x18ftypmp42" + bytes(100), "neither a JPEG nor a PNG, nor one of"),
    "PDF": (lambda: b"%PDF-1.7" + bytes(100), "neither a JPEG nor a PNG, nor one of"),
    "a huge BMP": (
        lambda: (
            b"BM"
            + bytes(12)
            + (40).to_bytes(4, "little")
            + (20000).to_bytes(4, "little") * 2
            + b"\1\0\x18\0"
            + bytes(24)
        ),
        "it claims",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_refused_with_its_reason(case):
    make, reason = UNREADABLE[case]
    with pytest.raises(jpeg.Damaged, match=reason):
        images.prepare(make())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation, form):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    content = encoded(SMALL, form, exif=exif, **options)
    wanted = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(content)).convert("RGB"))
    assert (wanted.size == (90, 120)) == (orientation >= 5)
    upright = images.prepare(content, 1024, raw=True)
    assert np.abs(upright.image - np.asarray(wanted).astype(int)).max() <= 2
    stored = images.prepare(content)
    assert np.abs(pixels_of(stored.image) - np.asarray(wanted)).mean() < 2.5
    reason = f"turned upright by its EXIF orientation {orientation}"
    assert stored.converted.endswith(reason) == (orientation > 1)
    assert PIL.Image.open(io.BytesIO(stored.image)).getexif().get(0x0112, 1) == 1
    as_stored = images.prepare(content, 1024, raw=True, upright=False)
    np.testing.assert_allclose(as_stored.image, pixels_of(content), atol=2)
    assert (f"EXIF orientation {orientation} is not applied" in as_stored.warning) == (
        orientation > 1
    )


def test_a_tiff_is_turned_upright_once():
    content = encoded(SMALL, "TIFF", tiffinfo={0x0112: 6})
    upright = images.prepare(content, 1024, raw=True)
    np.testing.assert_array_equal(upright.image, np.rot90(SMALL, -1))


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_is_none_is_ignored(orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = encoded(SMALL, "JPEG", exif=exif)
    assert images.prepare(content) == (content, "", "")


KINDS = {
    "ordinary": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarting": {"restart_marker_blocks": 40},
    "full chroma": {"subsampling": 0},
}


@pytest.mark.parametrize("count", [512, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_with_zeroed_bytes_is_refused(kind, count):
    content = encoded(PHOTOGRAPHS[1], "JPEG", quality=85, **KINDS[kind])
    images.prepare(content)
    begin, end = jpeg.scan(content)
    for place in np.linspace(begin, end - count, 12).astype(int):
        damaged = content[:place] + bytes(count) + content[place + count :]
        with pytest.raises(jpeg.Damaged):
            images.prepare(damaged)


def flat(value, size=(700, 900)):
    return np.full((*size, 3), value, np.uint8)


def logo():
    picture = flat(255)
    picture[100:190, 100:220] = SMALL
    return picture


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", [flat(0), flat(128), flat(255), logo(), PHOTOGRAPHS[1]])
def test_flat_pictures_and_extra_bytes_at_the_end_are_intact(picture, kind):
    content = encoded(picture, "JPEG", quality=85, **KINDS[kind])
    assert images.prepare(content) == (content, "", "")
    if picture is PHOTOGRAPHS[1]:
        for extra in (bytes(100), bytes(range(50)), b"\xff" * 40):
            spare = content[:-2] + extra + content[-2:]
            assert images.prepare(spare).image == spare


def test_flat_pictures_hold_the_zeros_that_make_them_worth_a_test():
    contents = [encoded(flat(255), "JPEG", **KINDS[kind]) for kind in ("optimised", "progressive")]
    assert any(bytes(64) in content for content in contents)


def test_left_over_data_count_as_damage_if_the_picture_is_impossible():
    """A picture of one brightness, with the difference of one block changed to a huge one."""
    content = encoded(PHOTOGRAPHS[0], "JPEG", quality=50)
    begin, end = jpeg.scan(content)
    assert damage._impossible(content) == 0
    dice, seen = np.random.default_rng(0), 0
    for _ in range(60):
        place = int(dice.integers(begin, begin + (end - begin) // 4))
        noise = dice.integers(0, 255, 40, np.uint8).tobytes()
        damaged = content[:place] + noise + content[place + 40 :]
        try:
            share = damage._impossible(damaged)
        except OSError:
            continue
        wrong = np.abs(pixels_of(damaged) - pixels_of(content)).max(-1) > 20
        assert share <= wrong.mean() * 2  # a mean that is impossible is wrong in most pixels
        seen += share > 0
    assert seen > 5


def test_a_folder_of_any_formats_is_prepared_and_names_what_is_not(tmp_path, capfd, monkeypatch):
    contents = {
        "train/a/0.webp": encoded(SMALL, "WEBP"),
        "train/a/1.bmp": encoded(SMALL, "BMP"),
        "train/a/2.gif": encoded(SMALL, "GIF"),
        "train/b/3.tif": encoded(SMALL, "TIFF"),
        "train/b/4.jfif": encoded(SMALL, "JPEG"),
        "train/b/5.jpe": encoded(SMALL, "JPEG"),
        "train/b/6": encoded(SMALL, "JPEG"),
        "train/b/7.heic": b"\0\0\0\x18ftypheic" + bytes(100),
        "train/b/8.mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "val/a/0.jpg": encoded(SMALL, "JPEG"),
        "test/0.jpg": encoded(SMALL, "JPEG"),
    }
    for name, content in contents.items():
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_bytes(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    command = ["~/home", "~/data", "--name", "my_set", "--processes", "1"]
    assert prepare.main(command) == 0
    out = capfd.readouterr().out
    report = prepare.plan.files.read_json(tmp_path / "data" / "my_set" / "1.0.0" / "report.json")
    converted = {one["image"]: one["reason"] for one in report["converted"]}
    assert converted == {
        "train/a/0.webp": "WEBP",
        "train/a/1.bmp": "BMP",
        "train/a/2.gif": "GIF",
        "train/b/3.tif": "TIFF",
    }
    left_out = {one["image"]: one["reason"] for one in report["left_out"]}
    assert left_out.keys() == {"test", "train/b/7.heic"}
    assert report["ignored"] == [{"file": "train/b/8.mp4", "reason": "no picture"}]
    for name, reason in [*left_out.items(), ("train/b/8.mp4", "no picture")]:
        assert f"{name}: {reason}" in out
    assert report["splits"]["train"]["written"] == 7
