"""Layouts of folders that people have, described by the names and contents of their files."""

import pathlib
import unicodedata

import pytest

from keras_elu.prepare import sources

TRAIN = ["train/a/1.jpg", "train/b/1.jpg"]


def make(folder, names):
    """Creates files; a text after `=` is their content."""
    for name in names:
        name, _, content = name.partition("=")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content or "picture")
    return folder


def found(folder, name="my_set"):
    """Numbers of images by split and class."""
    source = sources.find(folder, name)
    sources.check(source, folder)
    return {split: of.classes for split, of in source.splits.items()}


@pytest.mark.parametrize(
    ("split", "name"),
    [
        *(("validation", name) for name in ("val", "valid", "validation", "Val", "VALID")),
        *(("test", name) for name in ("test", "Test", "TEST", "testing")),
    ],
)
@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training"])
def test_splits_have_their_usual_names_in_any_case(split, name, train, tmp_path):
    make(tmp_path, [f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{name}/b/2.jpg"])
    assert found(tmp_path) == {"train": {"a": 1, "b": 1}, split: {"b": 1}}


BOTH = {"train": {"a": 1, "b": 1}, "validation": {"a": 1, "b": 1}}
BOXES = "1.JPEG\tb\t0\t32\t44\t62\n2.JPEG\ta\t1\t2\t3\t4\n"
LAYOUTS = {
    "tiny-ImageNet as downloaded": [
        *("train/a/images/a_0.JPEG", "train/a/a_boxes.txt=a_0.JPEG\t1\t2\t3\t4"),
        *("train/b/images/b_0.JPEG", "train/b/b_boxes.txt=b_0.JPEG\t1\t2\t3\t4"),
        *("val/images/1.JPEG", "val/images/2.JPEG", f"val/val_annotations.txt={BOXES}"),
        *("test/images/test_0.JPEG", "test/images/test_1.JPEG", "wnids.txt=a\nb", "words.txt=a\tx"),
    ],
    "tiny-ImageNet rearranged": [
        *("train/a/images/a_0.JPEG", "train/b/images/b_0.JPEG"),
        *("val/a/2.JPEG", "val/b/images/1.JPEG", f"val/val_annotations.txt={BOXES}"),
        *("val/images/.keep", "test/images/test_0.JPEG"),
    ],
    "Roboflow's folders": [
        *TRAIN,
        *("valid/a/1.jpg", "valid/b/1.jpg", "README.roboflow.txt", "README.dataset.txt"),
    ],
    "Roboflow's table": [
        *("train/1.jpg", "train/2.jpg", "valid/3.jpg", "valid/4.jpg"),
        "train/_classes.csv=filename, a, b\n1.jpg, 0, 1\n2.jpg, 1, 0\n",
        "valid/_classes.csv=filename, a, b\n3.jpg, 0, 1\n4.jpg, 1, 0\n",
    ],
    "Kaggle's table of ids": [
        *("train/x1.jpg", "train/x2.jpg", "val/x3.jpg", "val/x4.jpg", "test/x5.jpg"),
        *("labels.csv=id,breed\nx1,a\nx2,b\nx3,a\nx4,b\n", "sample_submission.csv=id,a,b\nx5,0,0"),
    ],
    "Kaggle's tables of splits": [
        *("train/x1.png", "train/x2.png", "valid/x3.png", "valid/x4.png"),
        "train.csv=image,size,label\nx1.png,9,a\nx2.png,9,b\n",
        "valid_labels.csv=path,class\nvalid/x3.png,b\nvalid/x4.png,a\n",
    ],
    "Kaggle's archive in an archive": [
        *(f"chest/{name}" for name in [*TRAIN, "val/a/1.jpg", "val/b/1.jpg"]),
        *(f"chest/chest/{name}" for name in TRAIN),
        *("__MACOSX/chest/train/a/._1.jpg", "chest/__MACOSX/train/a/._1.jpg"),
    ],
    "a folder twice": [
        *("train/train/a/1.jpg", "train/train/b/1.jpg", "val/val/a/1.jpg", "val/val/b/1.jpg"),
    ],
    "folders below the classes": [
        *("train/a/x/y/1.jpg", "train/b/z/1.jpg", "val/a/1.jpg", "val/b/images/1.jpg"),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have_are_prepared_as_they_are(layout, tmp_path):
    assert found(make(tmp_path, LAYOUTS[layout])) == BOTH


def test_labels_of_tables_are_those_of_the_pictures(tmp_path):
    for layout in ("tiny-ImageNet as downloaded", "Kaggle's tables of splits", "Roboflow's table"):
        folder = make(tmp_path / layout, LAYOUTS[layout])
        source = sources.find(folder, "my_set")
        wanted = {"1.JPEG": "b", "2.JPEG": "a", "x3.png": "b", "x4.png": "a", "3.jpg": "b"}
        wanted |= {"4.jpg": "a"}
        for image in source.splits["validation"].images:
            assert source.labels[image.label] == wanted[image.name]
            assert pathlib.Path(image.path).name == image.name


def test_pictures_without_splits_are_all_for_training(tmp_path):
    for layout in (["cat/1.jpg", "dog/1.jpg"], ["101/cat/1.jpg", "101/dog/1.jpg"]):
        folder = make(tmp_path / str(len(layout[0])), layout)
        source = sources.find(folder, "my_set")
        assert {s: of.classes for s, of in source.splits.items()} == {"train": {"cat": 1, "dog": 1}}
        with pytest.raises(ValueError, match="--validation_examples N holds out N"):
            sources.check(source, folder)
    trains = make(tmp_path / "vehicles", ["train/1.jpg", "bus/1.jpg"])
    assert sources.find(trains, "my_set").labels == ("bus", "train")


def test_held_out_images_are_the_last_and_no_image_is_lost(tmp_path):
    make(tmp_path, [f"train/{label}/{i}.jpg" for label in "ab" for i in range(10)])
    whole = sources.find(tmp_path, "my_set")
    held = sources.hold_out(whole, 6)
    sources.check(held, tmp_path)
    parts = [held.splits[split].images for split in ("train", "validation")]
    assert [len(part) for part in parts] == [14, 6]
    assert parts[0] + parts[1] == whole.splits["train"].images
    assert sum(held.splits["validation"].classes.values()) == 6
    assert held.splits["validation"].classes.keys() == {"a", "b"}


IGNORED = {
    "__MACOSX/train/a/._1.jpg": ("__MACOSX", "a folder of the operating system"),
    "train/@eaDir/x.jpg/SYNOPHOTO.jpg": ("train/@eaDir", "a folder of the operating system"),
    "train/a/@eaDir/1.jpg/SYNOPHOTO.jpg": ("train/a/@eaDir", "a folder of the operating system"),
    "train/.ipynb_checkpoints/1.jpg": (
        "train/.ipynb_checkpoints",
        "a folder of the operating system",
    ),
    "train/a/._1.jpg": ("train/a/._1.jpg", "a hidden file"),
    "train/a/Thumbs.db": ("train/a/Thumbs.db", "a hidden file"),
    "train/a/notes.txt": ("train/a/notes.txt", "no picture"),
    "train/a/below/notes": ("train/a/below/notes", "no picture"),
    "extra/c/1.jpg": ("extra", "no split of the set"),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_ignored_is_named_with_its_reason(name, tmp_path):
    make(tmp_path, [*TRAIN, "val/a/1.jpg", f"{name}=text"])
    source = sources.find(tmp_path, "my_set")
    assert source.ignored == [IGNORED[name]]
    assert source.left_out == []
    assert found(tmp_path) == {"train": {"a": 1, "b": 1}, "validation": {"a": 1}}


def test_a_folder_without_pictures_is_no_class(tmp_path):
    make(tmp_path, [*TRAIN, "train/c/notes.txt=text", "val/a/1.jpg"])
    source = sources.find(tmp_path, "my_set")
    assert source.labels == ("a", "b")
    assert ("train/c", "holds no pictures") in source.ignored


def test_pictures_without_a_label_are_left_out_and_do_not_stop_the_rest(tmp_path):
    make(tmp_path, [*TRAIN, "train/stray.jpg", "val/a/1.jpg", "test/1.jpg", "test/2.jpg"])
    source = sources.find(tmp_path, "my_set")
    assert source.left_out == [
        ("train/stray.jpg", "no label: it lies in no folder of a class"),
        ("test", "its 2 pictures lie in no folder of a class"),
    ]
    assert found(tmp_path) == {"train": {"a": 1, "b": 1}, "validation": {"a": 1}}


OF_PATIENTS = ["train/patient1/view1.jpg", "train/patient1/view2.jpg", "train/patient2/view1.jpg"]


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("train.csv", "Path,Label\nSet/train/{0},Edema\nSet/train/{1},Normal\nSet/train/{2},Edema"),
        ("train/labels.csv", "{0},Edema\n{1},Normal\n{2},Edema"),
        ("metadata.csv", "id,path,class\n1,{0},Edema\n2,{1},Edema\n3,{2},Edema"),
        ("train.csv", "Path,Edema,Pneumonia\n{0},1,0\n{1},0,1\n{2},1,0"),
        ("train.csv", "path,label\n{0},patient1\n{1},patient2\n{2},patient2"),
    ],
)
def test_a_table_that_contradicts_the_names_of_folders_is_refused(table, rows, tmp_path):
    pictures = [name.removeprefix("train/") for name in OF_PATIENTS]
    make(tmp_path, [*OF_PATIENTS, f"{table}={rows.format(*pictures)}\n"])
    with pytest.raises(ValueError, match="other classes than their folders") as refused:
        sources.find(tmp_path, "my_set")
    assert str(tmp_path / table) in str(refused.value)
    assert str(tmp_path / "train") in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("path,label\ntrain/a/1.jpg,a\ntrain/b/1.jpg,b\n", None),
        ("path,label\ntest/a/1.jpg,b\ntest/b/1.jpg,b\n", None),  # pictures that are not there
        ("path,label\n1.jpg,c\n", None),
        ("path,label\ntrain/a/1.jpg,0\ntrain/b/1.jpg,1\n", "has other names"),
        ("path,width,height\ntrain/a/1.jpg,7,8\ntrain/b/1.jpg,7,8\n", "no class of theirs"),
    ],
)
def test_a_table_that_agrees_with_the_names_of_folders_changes_nothing(rows, reason, tmp_path):
    make(tmp_path, [*TRAIN, f"table.csv={rows}"])
    source = sources.find(tmp_path, "my_set")
    assert source.splits["train"].classes == {"a": 1, "b": 1}
    notes = [why for name, why in source.ignored if name == "table.csv"]
    assert len(notes) == (reason is not None)
    assert all(reason in why for why in notes)


def test_a_picture_that_its_table_does_not_name_is_left_out(tmp_path):
    names = ["train/1.jpg", "train/2.jpg", "train/3.jpg", "val/1.jpg"]
    make(tmp_path, [*names, "labels.csv=id,label\n1,a\n2,b\n"])
    source = sources.find(tmp_path, "my_set")
    reason = "no label: it lies in no folder of a class, not even in labels.csv"
    assert source.left_out == [("train/3.jpg", reason)]


def labels_of(folder):
    """The classes that the training pictures get, by name."""
    source = sources.find(folder, "my_set")
    return {image.name: source.labels[image.label] for image in source.splits["train"].images}


# Numbers of rows, and classes that are numbers, are names of pictures, too: 0 is that of 0.jpg.
NUMBERED = {
    "pandas' index": ",filename,label\n0,2.jpg,a\n1,0.jpg,b\n2,1.jpg,a\n",
    "an index of ids": "id,image,label\n0,2.jpg,a\n1,0.jpg,b\n2,1.jpg,a\n",
    "an index, and ids": ",id,label\n0,2,a\n0,0,b\n1,1,a\n",
    "names of rows, as R writes them": '"file" "label"\n"0" "2.jpg" "a"\n"1" "0.jpg" "b"\n'
    '"2" "1.jpg" "a"\n',
    "classes first": "label,filename\n1,2.jpg\n0,0.jpg\n1,1.jpg\n",
    "classes first, and ids": "label,id\n1,2\n0,0\n1,1\n",
}


@pytest.mark.parametrize("table", NUMBERED)
def test_numbers_are_not_mistaken_for_names_of_pictures(table, tmp_path):
    make(tmp_path, [*(f"train/{i}.jpg" for i in range(3)), f"train.csv={NUMBERED[table]}"])
    a, b = "10" if "classes" in table else "ab"
    assert labels_of(tmp_path) == {"0.jpg": b, "1.jpg": a, "2.jpg": a}


@pytest.mark.parametrize(
    "rows",
    [
        "first,second,label\n0.jpg,1.jpg,a\n1.jpg,2.jpg,b\n2.jpg,0.jpg,b\n",
        "number,id,label\n0,1,a\n1,2,b\n2,0,b\n",
        "0.jpg golden eagle\n1.jpg owl\n2.jpg golden retriever\n",
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_not_read(rows, tmp_path):
    make(tmp_path, [*(f"train/{i}.jpg" for i in range(3)), f"train.csv={rows}"])
    with pytest.raises(ValueError, match="nor a table that gives each of its pictures one class"):
        sources.find(tmp_path, "my_set")


def test_a_row_that_breaks_off_leaves_out_its_picture_alone(tmp_path):
    rows = "filename,cat,dog,bird\na.jpg,1,0,0\nb.jpg,0,1,0\nc.jpg,0,0,1\nd.jpg,0\ntotal,4\n"
    make(tmp_path, [*(f"train/{name}.jpg" for name in "abcd"), f"train/_classes.csv={rows}"])
    assert labels_of(tmp_path) == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "bird"}
    reason = "no label: _classes.csv gives it no class"
    assert sources.find(tmp_path, "my_set").left_out == [("train/d.jpg", reason)]


def test_pictures_of_the_same_name_below_a_folder_of_images_are_told_apart(tmp_path):
    names = [f"train/images/{name}" for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "3.jpg")]
    rows = "path,label\na/1.jpg,cat\ntrain/images/b/1.jpg,dog\n2.jpg,dog\nimages/3.jpg,cat\n"
    make(tmp_path, [*names, f"train.csv={rows}"])
    wanted = {"a/1.jpg": "cat", "b/1.jpg": "dog", "b/2.jpg": "dog", "3.jpg": "cat"}
    assert labels_of(tmp_path) == wanted


def test_a_name_that_several_pictures_have_gives_none_of_them_a_label(tmp_path):
    names = [f"train/images/{name}" for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg")]
    make(tmp_path, [*names, "train.csv=path,label\n1.jpg,cat\n2.jpg,dog\n3.jpg,cat\n"])
    assert labels_of(tmp_path) == {"b/2.jpg": "dog", "b/3.jpg": "cat"}


def test_a_table_beside_the_data_set_is_not_its_own(tmp_path):
    names = [f"one/images/{i}.jpg" for i in range(3)]
    make(tmp_path, [*names, "labels.csv=id,label\n0,a\n1,b\n2,a\n"])
    with pytest.raises(ValueError, match="neither a folder for each class nor a table"):
        sources.find(tmp_path / "one", "my_set")


CONTRADICTIONS = {
    # Roboflow's multi-label export; a table of boxes, with a row for each.
    "train/_classes.csv": "filename,a,b\n1.jpg,0,1\n2.jpg,1,0\n3.jpg,1,1\n",
    "train.csv": "id,width,label\n1,9,b\n2,9,a\n3,9,a\n3,9,b\n2,5,a\n",
}


@pytest.mark.parametrize("table", CONTRADICTIONS)
def test_a_picture_of_several_classes_is_left_out_by_name(table, tmp_path):
    names = ["train/1.jpg", "train/2.jpg", "train/3.jpg"]
    make(tmp_path, [*names, f"{table}={CONTRADICTIONS[table]}"])
    source = sources.find(tmp_path, "my_set")
    assert labels_of(tmp_path) == {"1.jpg": "b", "2.jpg": "a"}
    where = pathlib.Path(table).name
    assert source.left_out == [("train/3.jpg", f"no label: it has the classes a and b in {where}")]


def test_a_table_of_attributes_is_no_table_of_classes(tmp_path):
    rows = "id,smiling,tall,young\n1,1,1,1\n2,0,1,1\n3,1,0,0\n"
    make(tmp_path, ["train/1.jpg", "train/2.jpg", "train/3.jpg", f"labels.csv={rows}"])
    with pytest.raises(ValueError, match="neither a folder for each class nor a table"):
        sources.find(tmp_path, "my_set")


@pytest.mark.parametrize("suffixes", [("JPG", "jpg"), ("jpg", "JPEG"), ("jpg", "png")], ids=str)
def test_a_table_may_spell_suffixes_differently(suffixes, tmp_path):
    of_file, of_table = suffixes
    names = [f"train/1.5.{of_file}", f"train/1.{of_file}", f"train/2.{of_file}"]
    rows = f"file,label\n1.5.{of_table},a\n2.{of_table},b\n1.7,c\n"
    make(tmp_path, [*names, f"labels.csv={rows}"])
    assert labels_of(tmp_path) == {f"1.5.{of_file}": "a", f"2.{of_file}": "b"}


# Each was reported as labels that are shifted because they follow the folders of each split.
SHIFTS = {
    "https://github.com/ultralytics/ultralytics/issues/13936": (
        [*(f"train/{name}/1.jpg" for name in (0, 90, 180, 270)), "test/0/2.jpg", "test/90/2.jpg"],
        {"train": ["0", "180", "270", "90"], "test": ["0", "90"]},
    ),
    "https://github.com/huggingface/pytorch-image-models/issues/957": (
        [*(f"train/{name}/1.jpg" for name in "abc"), "val/a/2.jpg", "val/b/x.txt", "val/c/2.jpg"],
        {"train": ["a", "b", "c"], "validation": ["a", "c"]},
    ),
    "https://github.com/modestyachts/ImageNetV2/issues/10": (
        [*(f"train/{name}/1.jpg" for name in (0, 2, 10, 100)), "val/100/2.jpg", "val/2/2.jpg"],
        {"train": ["0", "10", "100", "2"], "validation": ["100", "2"]},
    ),
}


@pytest.mark.parametrize("report", SHIFTS)
def test_labels_follow_the_names_of_folders_and_not_their_places(report, tmp_path):
    names, wanted = SHIFTS[report]
    source = sources.find(make(tmp_path, names), "my_set")
    for split, of in source.splits.items():
        folders = {source.labels[i.label]: pathlib.Path(i.path).parent.name for i in of.images}
        assert all(label == folder for label, folder in folders.items())
        assert sorted(folders) == wanted[split]


def test_a_class_that_only_validation_has_is_refused_by_name(tmp_path):
    # https://github.com/ultralytics/ultralytics/pull/26182, where c would count as a
    make(tmp_path, [*TRAIN, "val/c/1.jpg"])
    with pytest.raises(ValueError, match=r"c in .*val is not a known class"):
        sources.find(tmp_path, "my_set")


def test_a_folder_that_is_not_imagenet_is_told_of_the_flag(tmp_path):
    make(tmp_path, [*TRAIN, "val/a/1.jpg"])
    with pytest.raises(ValueError, match=r"a in .*train is not a known class: .* use --name\."):
        sources.find(tmp_path, "imagenet2012")


def test_names_in_both_forms_of_unicode_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    make(tmp_path, [f"train/{decomposed}/1.jpg", "train/b/1.jpg", f"val/{composed}/1.jpg"])
    assert found(tmp_path) == {"train": {composed: 1, "b": 1}, "validation": {composed: 1}}


def test_a_picture_is_known_by_its_content_where_its_name_says_nothing(tmp_path):
    contents = {
        "jpeg": b"\xff\xd8\xff\xe0 etc",
        "png.download": b"\x89PNG\r\n\x1a\n",
        "gif_large": b"GIF89a and so on",
        "webp": b"RIFF\0\0\0\0WEBPVP8 ",
    }
    make(tmp_path, [*TRAIN, "val/a/1.jpg", "train/a/BMW.txt=BM is no bitmap here"])
    for name, content in contents.items():
        (tmp_path / "train" / "a" / name).write_bytes(content)
    source = sources.find(tmp_path, "my_set")
    names = {image.name for image in source.splits["train"].images if image.label == 0}
    assert names == {"1.jpg", *contents}
    assert source.ignored == [("train/a/BMW.txt", "no picture")]


def test_a_link_to_a_folder_around_it_ends(tmp_path):
    make(tmp_path, [*TRAIN, "val/a/1.jpg"])
    (tmp_path / "train" / "a" / "loop").symlink_to(tmp_path / "train" / "a")
    source = sources.find(tmp_path, "my_set")
    assert source.splits["train"].classes == {"a": 1, "b": 1}
    assert source.ignored == [("train/a/loop", "a link to a folder around it")]


def test_kaggles_imagenet_is_found_where_it_lies(tmp_path):
    inside = "ILSVRC/Data/CLS-LOC"
    make(
        tmp_path,
        [
            f"{inside}/train/n01440764/n01440764_1.JPEG",
            f"{inside}/val/ILSVRC2012_val_00000001.JPEG",
            f"{inside}/test/ILSVRC2012_test_00000001.JPEG",
            "ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_1.xml=<annotation>",
            "LOC_val_solution.csv=ImageId,PredictionString\n",
        ],
    )
    assert found(tmp_path, "imagenet2012") == {
        "train": {"n01440764": 1},
        "validation": {"n01751748": 1},  # the published label of the first validation image
    }
