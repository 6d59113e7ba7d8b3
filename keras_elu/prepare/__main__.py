"""Prepares ImageNet, or any folder of images by class, as a data set of TFDS.

python -m keras_elu.prepare SOURCE DATA_DIR
python -m keras_elu.prepare SOURCE DATA_DIR --name my_set --resize 256

SOURCE holds the original ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or folders of JPEG or
PNG images: train/CLASS/* and val/CLASS/* (or validation, and test where there is one). Nothing is
extracted. Every image is decoded once; what is damaged is left out and listed in the report.json of
the result, which `keras_elu.data.load(NAME, data_dir=DATA_DIR)` and `tfds.load` read. If it is
stopped or killed, the same command goes on.
"""

import argparse
import contextlib
import fcntl
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import tqdm

from keras_elu import commands, files, system
from keras_elu.prepare import processes, shards, sources

WHOLE = {"train": 1_281_167, "validation": 50_000}  # imagenet2012's images
SHARD = 128_000_000  # bytes, about
MOST_SHARDS = {"train": 1024}  # of other splits 128
ORIGINAL, RESIZED, RAW = 104_342, 30_187, 257_657  # bytes each: means of 380 of ImageNet's images
SHOWN = 10  # images left out that are named on the terminal


class Stopped(BaseException):
    """A signal; the message is its name."""


class Plan(NamedTuple):
    """What is to be done: all images of a source into shards, by split, and where they end."""

    source: sources.Source
    recipe: shards.Recipe
    shards: dict[str, list[shards.Shard]]
    final: pathlib.Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what a command line describes, and returns the exit code.

    It is 0 if the data set is complete; 1 if the disk is full, a file cannot be read, or a process
    died; 2 if the command line or SOURCE is wrong; 75 if it was told to stop.

    Args:
        arguments: The command line. None: the process's own.
    """
    try:
        with _stopped_by_signals(), contextlib.ExitStack() as stack:
            options = _parse(arguments)
            try:
                plan = _begin(options, stack)
            except OSError as error:
                raise ValueError(f"{error.filename} cannot be used ({error.strerror}).") from error
            if plan:
                try:
                    _write_shards(plan, options.processes)
                    _finish(plan, options)
                except OSError as error:
                    raise processes.Failed(shards.explain(error)) from error
    except (ValueError, processes.Failed) as error:
        return commands.failure(error)
    except Stopped as stopped:
        print(f"{stopped}: stopped. The same command goes on from there.", file=sys.stderr)
        return commands.RESUMABLE
    return 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def stop(number, frame):
        for each in before:  # the end takes less than a second, and is not to be interrupted
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in processes.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.prepare", __doc__)
    parser.add_argument("source", metavar="SOURCE", type=pathlib.Path, help="folder of the images")
    parser.add_argument(
        "data_dir", metavar="DATA_DIR", type=pathlib.Path, help="folder of prepared data sets"
    )
    parser.add_argument(
        "--name", default=sources.IMAGENET, help="of the data set (default: %(default)s)"
    )
    parser.add_argument(
        "--resize",
        type=int,
        metavar="N",
        help="writes the set NAME_N, of images with N pixels on the shorter side where it is "
        f"longer, as JPEG of quality 90: with 256 about {RESIZED:,} bytes an image of ImageNet, "
        f"which has {ORIGINAL:,}",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="writes the set NAME_N_raw, of their pixels, which need no decoding: with 256 about "
        f"{RAW:,} bytes an image",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="(default: the cores it may use)"
    )
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name):
        raise ValueError(f"--name must be lower-case letters, digits and _, not {options.name!r}.")
    if options.resize is not None and not 1 <= options.resize <= 1024:
        raise ValueError(f"--resize must be 1 to 1024 pixels, not {options.resize}.")
    if options.raw and not options.resize:
        raise ValueError("--raw needs --resize: pixels take ten times the room of whole images.")
    if options.processes is None:
        options.processes = system.cores()
    if options.processes < 1:
        raise ValueError(f"--processes must be a positive number, not {options.processes}.")
    if not options.source.is_dir():
        raise ValueError(f"{options.source} is not a folder: name the one that holds the images.")
    return options


def _begin(options: argparse.Namespace, stack: contextlib.ExitStack) -> Plan | None:
    """Finds the images, and makes a folder to write to, locked; None where all is done.

    Raises:
        ValueError: With one sentence, if something is wrong. Nothing is written.
    """
    name, version = _name_and_version(options)
    final = options.data_dir.absolute() / name / version
    folder = final.with_name(f"unfinished-{version}")
    if _is_complete(final):
        return None
    above = next(path for path in folder.parents if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ValueError(f"{options.data_dir} cannot be written: {above} does not permit it.")
    locked = folder.exists() and stack.enter_context(_locked(folder))
    source = sources.find(options.source, options.name)
    recipe = shards.Recipe(folder, source.labels, options.resize, options.raw)
    spread = {s: _spread(f"{name}-{s}", of.images, recipe) for s, of in source.splits.items()}
    plan = Plan(source, recipe, spread, final)
    identity = {
        "SOURCE": os.path.realpath(options.source),
        "content of SOURCE": source.digest,
        "set of options": [options.name, options.resize, options.raw],
    }
    for key, held in files.read_json(folder / shards.PROGRESS / "plan.json").items():
        if identity.get(key) != held:
            raise ValueError(
                f"{folder} was begun with another {key}, {held} instead of {identity.get(key)}: "
                "give the same command to go on, or remove that folder to begin anew."
            )
    _show(plan, options, above)
    if not locked:
        stack.enter_context(_locked(folder))
    if _is_complete(final):  # by another process meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        return None
    for begun in (folder / shards.PROGRESS).glob("*-of-?????"):
        begun.unlink()
    files.write_json(folder / shards.PROGRESS / "plan.json", identity)
    return plan


def _name_and_version(options: argparse.Namespace) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    taken = {*tfds.list_builders(with_community_datasets=False), "digits", "synthetic"}
    if options.name in taken - {sources.IMAGENET}:
        raise ValueError(f"--name {options.name} is another data set's: choose a name of your own.")
    if options.resize:
        return f"{options.name}_{options.resize}" + "_raw" * options.raw, "1.0.0"
    is_imagenet = options.name == sources.IMAGENET
    return options.name, str(tfds.builder_cls(options.name).VERSION) if is_imagenet else "1.0.0"


def _is_complete(final: pathlib.Path) -> bool:
    if not final.exists():
        return False
    if not (final / "dataset_info.json").is_file():
        raise ValueError(f"{final} is in the way: it is not a data set. Remove it.")
    shutil.rmtree(final / shards.PROGRESS, ignore_errors=True)
    source = files.read_json(final / "report.json").get("source", "elsewhere")
    print(f"{final} is complete, from {source}: nothing is done. Remove it to prepare it again.")
    return True


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Takes a folder, which the operating system gives back however the process ends."""
    (folder / shards.PROGRESS).mkdir(parents=True, exist_ok=True)
    with (folder / shards.PROGRESS / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another process"
            raise ValueError(f"{folder} is in use by {owner}: wait until it ends.") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield True


def _spread(name: str, images: list[sources.Image], recipe: shards.Recipe) -> list[shards.Shard]:
    """Spreads the images of a split over shards, as many in each, give or take one."""
    most = MOST_SHARDS.get(name.rpartition("-")[2], 128)
    count = min(math.ceil(_estimate(images, recipe) / SHARD), most, len(images))
    edges = [len(images) * i // (count or 1) for i in range(count + 1)]
    return [
        shards.Shard(f"{name}.tfrecord-{i:05d}-of-{count:05d}", images[edges[i] : edges[i + 1]])
        for i in range(count)
    ]


def _estimate(images: list[sources.Image], recipe: shards.Recipe) -> int:
    """Bytes of images as records, which name, label and framing make 100 longer at most."""
    original = sum(image.size + 100 for image in images)
    each = RAW if recipe.raw else RESIZED
    resized = len(images) * each * (recipe.shorter or 0) ** 2 // 256**2
    return resized if recipe.raw else min(original, resized) if resized else original


def _show(plan: Plan, options: argparse.Namespace, disk: pathlib.Path) -> None:
    """Prints what there is, and what is to come.

    Raises:
        ValueError: If there is no room for it.
    """
    for split, (origin, images, classes) in plan.source.splits.items():
        least, most = (pick(classes.values(), default=0) for pick in (min, max))
        each = f"{least:,} to {most:,}" if least < most else f"{most:,}"
        size = _size(sum(image.size for image in images))
        print(f"{split}: {len(images):,} images ({size}) of {len(classes):,} classes, {each} each,")
        print(f"    in {origin}")
    for split, missing in _missing(plan.source, options.name).items():
        print(f"    {missing:,} of the {WHOLE[split]:,} {split} images of ImageNet are not there")
    done = [shards.read_done(shard, plan.recipe) for shard in _all_shards(plan)]
    estimates = [_estimate(of.images, plan.recipe) for of in plan.source.splits.values()]
    needed = max(0, sum(estimates) - sum(one["bytes"] for one in done if one))
    free = shutil.disk_usage(disk).free
    sizes = f"{_size(free)} are free, and about {_size(needed)} needed"
    print(f"{len(done):,} files in {plan.final}, of which {sum(map(bool, done)):,} are complete")
    print(f"    {sizes}", flush=True)
    if needed > free:
        raise ValueError(f"{disk} is too full: {sizes}. Make room, or name another DATA_DIR.")


def _missing(source: sources.Source, name: str) -> dict[str, int]:
    """How many of ImageNet's images are not there, by split."""
    if name != sources.IMAGENET:
        return {}
    there = {split: len(of.images) for split, of in source.splits.items()}
    missing = {split: whole - there.get(split, 0) for split, whole in WHOLE.items()}
    return {split: count for split, count in missing.items() if count}


def _size(count: int) -> str:
    """A number of bytes, in words.

    Example:

    >>> _size(153_400_000_000), _size(1_260_000)
    ('153.4 GB', '1.3 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _all_shards(plan: Plan) -> list[shards.Shard]:
    return [shard for split in plan.shards.values() for shard in split]


def _write_shards(plan: Plan, count: int) -> None:
    """Writes the shards that are not there."""
    jobs = [shard for shard in _all_shards(plan) if not shards.read_done(shard, plan.recipe)]
    total, left = (sum(len(shard.images) for shard in some) for some in (_all_shards(plan), jobs))
    often = {"mininterval": 0.5} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 30}
    bar = tqdm.tqdm(total=total, initial=total - left, unit=" images", **often)
    with bar, contextlib.closing(processes.run(count, jobs, plan.recipe)) as counts:
        for count in counts:
            bar.update(count)


def _finish(plan: Plan, options: argparse.Namespace) -> None:
    """Writes the report and the metadata, and gives the folder its name."""
    import tensorflow_datasets as tfds

    folder = plan.recipe.folder
    report = {
        "source": os.path.realpath(options.source),
        "missing": _missing(plan.source, options.name),
        "splits": {},
        "left_out": [],
        "converted": [],
        "warnings": [],
    }
    infos = []
    for split, (origin, images, classes) in plan.source.splits.items():
        there = [shards.read_done(shard, plan.recipe) for shard in plan.shards[split]]
        lengths, sizes = ([done[key] for done in there] for key in ("images", "bytes"))
        report["splits"][split] = {
            "from": os.fspath(origin),
            "images": len(images),
            "written": sum(lengths),
            "bytes": sum(sizes),
            "classes": classes,
        }
        for key in ("left_out", "converted", "warnings"):
            report[key] += [
                {"image": f"{split}/{image}", "reason": reason}
                for done in there
                for image, reason in done[key]
            ]
        if any(lengths):
            infos.append(tfds.core.SplitInfo(split, lengths, sum(sizes)))
        else:  # which TFDS does not read
            for shard in plan.shards[split]:
                (folder / shard.name).unlink()
    files.write_json(folder / "report.json", report)
    if not infos:
        raise processes.Failed(f"No image is intact: {folder / 'report.json'} says why.")
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=plan.recipe.features(),
        split_infos=infos,
        version=plan.final.name,
        check_data=False,
        description="Images by class, prepared by keras_elu.",
        supervised_keys=("image", "label"),
        homepage="https://image-net.org" if options.name == sources.IMAGENET else None,
    )
    for path in folder.glob("*.*"):
        files.synchronise(path)
    files.complete(folder, plan.final)
    shutil.rmtree(plan.final / shards.PROGRESS, ignore_errors=True)
    print(
        f"{plan.final} is complete: "
        + ", ".join(f"{of['written']:,} {split}" for split, of in report["splits"].items())
        + f" images; {len(report['left_out']):,} left out, {len(report['converted']):,} converted, "
        f"{len(report['warnings']):,} with warnings: report.json names them."
    )
    for one in report["left_out"][:SHOWN]:
        print(f"    {one['image']}: {one['reason']}")
    if len(report["left_out"]) > SHOWN:
        print(f"    and {len(report['left_out']) - SHOWN:,} more")


def command() -> NoReturn:
    """`main` as a process, which ends as soon as it has."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # TensorFlow would take seconds to go


if __name__ == "__main__":
    command()
