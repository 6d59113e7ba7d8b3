"""Prepares a data set that is not prepared yet, from archives or a download."""

import contextlib
import hashlib
import os
import pathlib
import queue
import shutil
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from keras_elu.data import cifar

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
ARCHIVES = {
    "mnist": IDX,
    "fashion_mnist": IDX,
    "cifar10": ("cifar-10-binary.tar.gz",),
    "cifar100": ("cifar-100-binary.tar.gz",),
    "imagenette": ("imagenette2.tgz",),
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
}
HASHED = 2**30  # bytes: of larger archives only the size is checked
PATIENCE = 8  # seconds for the first answer of a server
ELSEWHERE = "https://storage.googleapis.com"  # of sets without known addresses


class NotFound(ValueError):
    """A data set is missing, or cannot be prepared from the files at hand."""


def folder(manual_dir: str | os.PathLike) -> pathlib.Path:
    """Returns an existing `manual_dir`; raises `NotFound` otherwise."""
    folder = path("manual_dir", manual_dir)
    if not folder.is_dir():
        raise NotFound(
            f"manual_dir {folder} is not a folder; name the one that holds the archives."
        )
    return folder


def path(argument: str, path: str | os.PathLike) -> pathlib.Path:
    """Returns a path with `~` expanded; raises `NotFound` if no file can have it."""
    try:
        path = pathlib.Path(path).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long a name, or ~ of an unknown user
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise NotFound(f"{argument} {path} cannot be used ({reason}); name another.") from None
    return path


def archives(builder, manual: pathlib.Path) -> pathlib.Path:
    """Returns the folder, `manual` or inside it, with the archives, after checking them."""
    infos = _url_infos(builder)
    wanted = ARCHIVES.get(builder.name)
    folders = (manual, manual / builder.name)
    for folder in folders:
        present = {file for file in wanted or infos if (folder / file).is_file()}
        if present and (wanted is None or len(present) == len(wanted)):
            break
    else:
        if wanted is None and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            return manual
        raise NotFound(
            f"{builder.name} is not prepared in {builder.data_dir_root}, and neither {folders[0]} "
            f"nor {folders[1]} holds {_ways(builder.name, infos)}."
        )
    for file in sorted(present):
        path = folder / file
        if file in infos and not any(_matches(path, info) for info in infos[file]):
            config = f"/{builder.builder_config.name}" if builder.builder_config else ""
            raise NotFound(
                f"{path} is not the original archive of {builder.name}{config} (its size or "
                f"SHA-256 differs); fetch it again."
            )
    return folder


def _url_infos(builder) -> dict[str, list]:
    """By file name, what is published of the archives, which several configurations may share.

    If some addresses name the builder's configuration, only these count.
    """
    found = {}
    for url, info in (builder.url_infos or {}).items():
        found.setdefault(urllib.parse.urlparse(url).path.rpartition("/")[2], []).append((url, info))
    config = builder.builder_config.name.lower() if builder.builder_config else None
    result = {}
    for file, published in found.items():
        own = [info for url, info in published if config and config in url.lower()]
        result[file] = own or [info for _, info in published]
    return result


def _matches(path: pathlib.Path, info) -> bool:
    if path.stat().st_size != info.size:
        return False
    if info.size > HASHED:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == info.checksum


def _ways(name: str, infos: dict) -> str:
    """Returns the files that a manual_dir should hold, in words."""
    files = ", ".join(ARCHIVES.get(name) or sorted(infos)[:4]) or "its archives"
    if name in cifar.FILES:
        files += f" or the extracted folder {cifar.FILES[name][0]}"
    if name == "imagenet2012":
        files += " (for extracted folders: python -m keras_elu.prepare)"
    return files


def assert_reachable(builder, root: pathlib.Path) -> None:
    """Raises `NotFound` if a download cannot begin: without a network, TFDS retries for minutes."""
    urls = list(builder.url_infos or ())
    reason = None
    addresses = [url for url in urls if url.startswith("http")] or [ELSEWHERE]
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        reason = "its licence asks you to fetch it yourself"
    elif unreachable := _unreachable(addresses[0]):
        host = urllib.parse.urlparse(addresses[0]).netloc
        reason = f"{host} cannot be reached ({unreachable})"
    if reason:
        infos = [urllib.parse.urlparse(url).path.rpartition("/")[2] for url in urls]
        raise NotFound(
            f"{builder.name} is not prepared in {root} and cannot be downloaded: {reason}; "
            f"give a data_dir where TFDS has prepared it, or a manual_dir that holds "
            f"{_ways(builder.name, dict.fromkeys(infos))}."
        )


def _unreachable(url: str) -> str:
    """Why a server does not answer within `PATIENCE` seconds, or ""."""
    answers = queue.SimpleQueue()

    def ask():
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            pass  # the server is there
        except OSError as error:
            answers.put(str(getattr(error, "reason", error)))
        answers.put("")

    # The timeout is for each address of the host, and does not include looking up its name.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except queue.Empty:
        return f"no answer in {PATIENCE} s"


def prepare(builder, root: pathlib.Path, manual: pathlib.Path | None) -> None:
    """Prepares in a temporary folder inside `root`, and renames it; a failure leaves nothing.

    Downloads go there too: MNIST and Fashion-MNIST share file names, and in a shared folder TFDS
    may confuse them.
    """
    import tensorflow_datasets as tfds

    target = pathlib.Path(builder.data_dir)
    created = [folder for folder in target.parents if not folder.exists()]  # the deepest first
    try:
        root.mkdir(parents=True, exist_ok=True)
        aside = pathlib.Path(tempfile.mkdtemp(prefix=".preparing-", dir=root))
    except OSError as error:
        _remove_empty(created)
        raise NotFound(
            f"{builder.name} cannot be prepared in {root} ({error.strerror}); "
            f"give a data_dir that can be written."
        ) from None
    downloading = manual is None and builder.name != "digits"
    tfds.display_progress_bar(downloading)
    try:
        kwargs = {"config": builder.builder_config.name} if builder.builder_config else {}
        worker = type(builder)(data_dir=aside, version=str(builder.version), **kwargs)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            worker.download_and_prepare(
                download_dir=aside / "downloads",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual, try_download_gcs=False
                ),
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            pathlib.Path(worker.data_dir).replace(target)
        except OSError:
            if not builder.is_prepared():  # otherwise another process was first
                raise
    except Exception as error:
        source = (
            f"from {manual}" if manual else "by a download" if downloading else "from scikit-learn"
        )
        failure = f"{builder.name} cannot be prepared {source} in {root}: {sentence(error)}"
    else:
        failure = None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _remove_empty(created)
    if failure:
        raise NotFound(failure)


def _remove_empty(folders: list[pathlib.Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def sentence(error: Exception) -> str:
    """Returns the first sentence of an exception, without TFDS's further advice."""
    line = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
    return line.partition(". ")[0].rstrip(" .:") + "."
