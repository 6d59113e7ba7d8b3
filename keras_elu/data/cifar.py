"""CIFAR-10 and CIFAR-100 from their extracted binary files, each checked by its published SHA-1."""

import hashlib
import pathlib

import numpy as np

# By data set: the folder inside the archive; the bytes before each image, the last one being the
# label; and its files, with their checksums, by split.
FILES = {
    "cifar10": (
        "cifar-10-batches-bin",
        1,
        {
            "train": {
                "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
                "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
                "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
                "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
                "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
            },
            "test": {"test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c"},
        },
    ),
    "cifar100": (
        "cifar-100-binary",
        2,
        {
            "train": {"train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"},
            "test": {"test.bin": "8fb6623e830365ff53cf14adec797474f5478006"},
        },
    ),
}


def find(name: str, manual_dir: pathlib.Path) -> pathlib.Path | None:
    """The folder with the binary files of `name`: `manual_dir` itself, or inside it; or None."""
    if name not in FILES:
        return None
    folder, _, splits = FILES[name]
    first = next(iter(splits["train"]))
    for candidate in (
        manual_dir / folder,
        manual_dir / name / folder,
        manual_dir / name,
        manual_dir,
    ):
        if (candidate / first).is_file():
            return candidate
    return None


def read(name: str, folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (N, 32, 32, 3) and labels (N,), both uint8, of "train" and "test".

    Raises:
        ValueError: If a file is missing, or is not the published one.
    """
    _, prefix, splits = FILES[name]
    result = {}
    for split, files in splits.items():
        rows = np.concatenate([_rows(folder / file, sha1, prefix) for file, sha1 in files.items()])
        images = rows[:, prefix:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        result[split] = np.ascontiguousarray(images), rows[:, prefix - 1].copy()
    return result


def _rows(path: pathlib.Path, sha1: str, prefix: int) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); extract the archive again."
        ) from None
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() != sha1:
        raise ValueError(
            f"{path} is not the published file (its SHA-1 differs); extract the archive again."
        )
    return np.frombuffer(content, np.uint8).reshape(-1, prefix + 32 * 32 * 3)
