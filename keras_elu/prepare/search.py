"""The folders of a data set: which are splits and classes, which pictures lie in them."""

import os
import pathlib
import re
import stat
import unicodedata
from collections.abc import Iterator

from keras_elu.prepare import archives, label_files

FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
SUFFIXES = (
    *(".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif"),
)
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM.{4}\0\0\0\0|....ftyp(av|he)i",
    re.DOTALL,
)
_SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "thumbs.db"}
_SYSTEM |= {"system volume information", "desktop.ini"}
_CONTAINERS = {"images", "image", "imgs", "img", "pictures", "jpegimages"}  # no names of classes
_DEEPEST = 4  # folders between SOURCE and its splits


def text(name: str) -> str:
    """A name in Unicode's composed form: macOS and Linux may write the same name differently."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode(errors="replace"))


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEM


def _folders(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The folders in a folder, sorted, without those that belong to the operating system."""
    with os.scandir(folder) as entries:
        paths = [e.path for e in entries if not _is_system(e.name) and e.is_dir()]
    return [pathlib.Path(path) for path in sorted(paths)]


def _holds_pictures(folder: pathlib.Path) -> bool:
    search = Search(folder, "")
    return next(search.pictures(folder), None) is not None


class Search:
    """Finds the images of each split, and notes what is not used."""

    def __init__(self, folder: pathlib.Path, name: str):
        self._folder, self._name = folder, name
        self.found: dict[str, archives.Found] = {}
        self.origins: dict[str, pathlib.Path] = {}
        self.left_out: list[tuple[str, str]] = []
        self.ignored: list[tuple[str, str]] = []

    def run(self) -> None:
        root = self._root()
        origins = self._splits(root)
        if not origins and self._name != archives.IMAGENET:
            origins, root = self._without_splits(root)
        known = set(archives.lines("labels.txt")) if self._name == archives.IMAGENET else None
        for split, origin in origins.items():
            self.origins[split] = origin
            if origin.is_dir():
                found = self._images(origin, split, known)
            else:
                found = archives.images(origin, split)
            if found:
                self.found[split] = found
            if split == "train" and known is None:
                known = set(found)
        if root not in origins.values():
            used = {*origins.values()}
            for path in sorted(root.iterdir()):
                if path.is_dir() and path not in used:
                    system = _is_system(path.name)
                    reason = "a folder of the operating system" if system else "no split of the set"
                    self._ignore(path, reason)

    def _ignore(self, path: str | os.PathLike, reason: str) -> None:
        self.ignored.append((text(os.path.relpath(path, self._folder)), reason))

    def _leave_out(self, path: str | os.PathLike, reason: str) -> None:
        self.left_out.append((text(os.path.relpath(path, self._folder)), reason))

    def _root(self) -> pathlib.Path:
        """The folder that holds the splits: SOURCE, or the only one a few folders below it."""
        if self._splits(self._folder):
            return self._folder
        level = [self._folder]
        for _ in range(_DEEPEST):
            level = [path for folder in level for path in _folders(folder)]
            if len(level) > 1000:  # classes, rather
                break
            found = [path for path in level if "train" in self._splits(path)]
            found = [path for path in found if _holds_pictures(self._splits(path)["train"])]
            if len(found) > 1:
                raise ValueError(
                    f"{self._folder} holds several data sets, {found[0]} and {found[1]}: name one "
                    "of them as SOURCE."
                )
            if found:
                return found[0]
        return self._folder

    def _splits(self, folder: pathlib.Path) -> dict[str, pathlib.Path]:
        """The tar or the folder of each split; the tar if there are both, as it must be whole."""
        origins, inside = {}, _folders(folder)
        for split in FOLDERS if self._name != archives.IMAGENET else archives.TARS:
            named = [path for path in inside if path.name.casefold() in FOLDERS[split]]
            if self._name == archives.IMAGENET and (folder / archives.TARS[split]).is_file():
                origins[split] = folder / archives.TARS[split]
            elif len(named) > 1:
                raise ValueError(f"There are both {named[0]} and {named[1]}: leave one of them.")
            elif named:
                origins[split] = named[0]
        if list(origins) == ["train"] and len(inside) > 1 and not _folders(origins["train"]):
            return {}  # a class of trains among other classes
        return origins

    def _without_splits(self, root: pathlib.Path) -> tuple[dict[str, pathlib.Path], pathlib.Path]:
        """Folders of classes, in SOURCE or in the only folder in it, are training images."""
        while len(inside := _folders(root)) == 1 and len(_folders(inside[0])) > 1:
            root = inside[0]
        return ({"train": root} if inside else {}), root

    def _images(self, origin: pathlib.Path, split: str, known: set[str] | None) -> archives.Found:
        """The images of a split's folder, by class."""
        folders = _folders(origin)
        if len(folders) == 1 and folders[0].name.casefold() in FOLDERS[split]:  # train/train
            return self._images(folders[0], split, known)
        found, flat = {}, list(self._files(origin))
        filled = {path: list(self.pictures(path)) for path in folders}
        for path in folders:
            label, pictures = unicodedata.normalize("NFC", path.name), filled[path]
            if not pictures:
                self._ignore(path, "holds no pictures")
            elif label.casefold() in _CONTAINERS and (
                label not in known if known else sum(map(bool, filled.values())) == 1
            ):
                flat += pictures
            else:
                found.setdefault(label, []).extend(pictures)
        if self._name != archives.IMAGENET:
            self._check_tables(origin, split, found)
        if not flat:
            if not found:
                raise ValueError(f"{origin} holds no folders: it must hold one for each class.")
            return found
        if split == "validation" and self._name == archives.IMAGENET:
            numbered = archives.by_number(origin, flat)
            for label, images in numbered.items():
                found.setdefault(label, []).extend(images)
            return found
        return self._labelled(origin, split, found, flat, known)

    def _check_tables(self, origin: pathlib.Path, split: str, found: archives.Found) -> None:
        """Refuses folders if a table gives their pictures other classes.

        Other names for the same classes are no contradiction.
        """
        folders = {
            pathlib.Path(os.path.relpath(path, origin)).as_posix(): label
            for label, pictures in found.items()
            for _, path, *_ in pictures
        }
        foreign = {name for other, names in FOLDERS.items() if other != split for name in names}
        for table, classes in label_files.by_path(self._around(origin), folders, foreign):
            pairs = {}  # with a picture of each
            for picture, of in classes.items():
                for label in of:
                    label = unicodedata.normalize("NFC", label)
                    pairs.setdefault((folders[picture], label), picture)
            reason = "names pictures, but no class of theirs: their folders are their classes"
            if pairs:
                if all(folder == label for folder, label in pairs):
                    continue
                if not len(pairs) == len({f for f, _ in pairs}) == len({t for _, t in pairs}):
                    (folder, label), picture = next(
                        (pair, picture) for pair, picture in pairs.items() if pair[0] != pair[1]
                    )
                    raise ValueError(
                        f"{table} gives pictures in {origin} other classes than their folders do, "
                        f"as {label} instead of {folder} to {picture}: remove the table, or move "
                        "the pictures into a folder for each of its classes."
                    )
                reason = "has other names for the classes: those of the folders are used"
            used = text(os.path.relpath(table, self._folder))
            self.ignored = [one for one in self.ignored if one[0] != used]
            self._ignore(table, reason)

    def _around(self, origin: pathlib.Path) -> list[pathlib.Path]:
        """The folder of a split, and the one that holds it, in which its tables may be."""
        return [origin] if origin == self._folder else [origin, origin.parent]

    def _labelled(self, origin, split, found: archives.Found, flat, known) -> archives.Found:
        """Adds pictures that lie in no folder of a class, as far as a table labels them."""
        names = {name for name, *_ in flat}
        table = label_files.read(self._around(origin), FOLDERS[split], names)
        labels = table.labels if table else {}
        labels = {n: unicodedata.normalize("NFC", label) for n, label in labels.items()}
        if known or found:  # otherwise the table has the classes
            labels = {n: label for n, label in labels.items() if label in (known or set(found))}
        if labels:
            used = text(os.path.relpath(table.path, self._folder))
            self.ignored = [(name, reason) for name, reason in self.ignored if name != used]
        without = [picture for picture in flat if picture[0] not in labels]
        for picture in flat:
            if picture[0] in labels:
                found.setdefault(labels[picture[0]], []).append(picture)
        if not found and split == "train":
            raise ValueError(
                f"{origin} holds neither a folder for each class nor a table that gives each of "
                "its pictures one class."
            )
        if len(without) == len(flat) and not found:
            self._leave_out(origin, f"its {len(flat):,} pictures lie in no folder of a class")
        else:
            where = f", not even in {table.path.name}" if labels else ""
            reason = f"it lies in no folder of a class{where}"
            unclear = table.unclear if table else {}
            for name, path, *_ in without:
                self._leave_out(path, f"no label: {unclear.get(name, reason)}")
        return found

    def pictures(
        self, folder: pathlib.Path, below: str = "", above: tuple = ()
    ) -> Iterator[tuple[str, str, int, int]]:
        """The pictures in a folder and in those below it."""
        yield from self._files(folder, below)
        status = folder.stat()
        above = (*above, (status.st_dev, status.st_ino))
        for inner in _folders(folder):
            status = inner.stat()
            if (status.st_dev, status.st_ino) in above:  # a link to a folder above
                self._ignore(inner, "a link to a folder around it")
            else:
                yield from self.pictures(inner, f"{below}{inner.name}/", above)

    def _files(
        self, folder: str | os.PathLike, below: str = ""
    ) -> Iterator[tuple[str, str, int, int]]:
        with os.scandir(folder) as entries:
            entries = sorted(entries, key=lambda entry: entry.name)
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:  # a broken link
                status = None
            if status and stat.S_ISDIR(status.st_mode):
                if _is_system(entry.name):
                    self._ignore(entry.path, "a folder of the operating system")
                continue
            size = status.st_size if status and stat.S_ISREG(status.st_mode) else 0
            if _is_system(entry.name):
                self._ignore(entry.path, "a hidden file")
            elif _is_picture(entry.path, size):
                yield below + entry.name, entry.path, 0, size
            else:
                self._ignore(entry.path, "no picture")


def _is_picture(path: str, size: int) -> bool:
    """Whether a file is meant as a picture, by its suffix or else by its content."""
    if path.lower().endswith(SUFFIXES):
        return True
    if not size:
        return False
    with pathlib.Path(path).open("rb") as file:
        return bool(_BEGINNINGS.match(file.read(16)))
