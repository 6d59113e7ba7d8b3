"""What is to be done: which images go into which shards, and whether there is room."""

import argparse
import contextlib
import math
import os
import pathlib
import shutil
from typing import NamedTuple

from keras_elu import files
from keras_elu.prepare import archives, shards, sources

WHOLE = {"train": 1_281_167, "validation": 50_000}  # imagenet2012's images
SHARD = 128_000_000  # bytes, about
MOST_SHARDS = {"train": 1024}  # of other splits 128
ORIGINAL, RESIZED, RAW = 104_342, 30_187, 257_657  # bytes each: means of 380 of ImageNet's images


class Plan(NamedTuple):
    """All images of a source, by split and shard, and the final folder of the data set."""

    source: sources.Source
    output: shards.Output
    shards: dict[str, list[shards.Shard]]
    final: pathlib.Path

    @property
    def all_shards(self) -> list[shards.Shard]:
        return [shard for split in self.shards.values() for shard in split]


def begin(options: argparse.Namespace, stack: contextlib.ExitStack) -> Plan | None:
    """Finds the images, and creates and locks a folder to write to; None if all is done.

    Args:
        options: The command line.
        stack: Keeps the lock.

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
    locked = folder.exists() and stack.enter_context(_lock(folder))
    source = sources.find(options.source, options.name)
    if options.validation_examples:
        source = sources.hold_out(source, options.validation_examples)
    sources.check(source, options.source)
    upright = options.name != archives.IMAGENET  # whose images are those of TFDS
    output = shards.Output(folder, source.labels, options.resize, options.raw, upright)
    spread = {s: _spread(f"{name}-{s}", of.images, output) for s, of in source.splits.items()}
    plan = Plan(source, output, spread, final)
    identity = {
        "SOURCE": os.path.realpath(options.source),
        "content of SOURCE": source.digest,
        "set of options": [
            options.name,
            options.resize,
            options.raw,
            *([options.validation_examples] if options.validation_examples else []),
        ],
    }
    for key, held in files.read_json(folder / shards.PROGRESS / "plan.json").items():
        if identity.get(key) != held:
            raise ValueError(
                f"{folder} was begun with another {key}, {held} instead of {identity.get(key)}: "
                "give the same command to resume it, or remove that folder to start over."
            )
    _show(plan, options, above)
    if not locked:
        stack.enter_context(_lock(folder))
    if _is_complete(final):  # meanwhile, by another process
        shutil.rmtree(folder, ignore_errors=True)
        return None
    for begun in (folder / shards.PROGRESS).glob("*-of-?????"):
        begun.unlink()
    files.write_json(folder / shards.PROGRESS / "plan.json", identity)
    return plan


def missing(source: sources.Source, name: str) -> dict[str, int]:
    """How many of ImageNet's images are missing, by split; `{}` for other data sets."""
    if name != archives.IMAGENET:
        return {}
    there = {split: len(of.images) for split, of in source.splits.items()}
    counts = {split: whole - there.get(split, 0) for split, whole in WHOLE.items()}
    return {split: count for split, count in counts.items() if count}


def _name_and_version(options: argparse.Namespace) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    taken = {*tfds.list_builders(with_community_datasets=False), "digits", "synthetic"}
    if options.name in taken - {archives.IMAGENET}:
        raise ValueError(f"--name {options.name} is another data set's: choose another name.")
    if options.resize:
        return f"{options.name}_{options.resize}" + "_raw" * options.raw, "1.0.0"
    is_imagenet = options.name == archives.IMAGENET
    return options.name, str(tfds.builder_cls(options.name).VERSION) if is_imagenet else "1.0.0"


def _is_complete(final: pathlib.Path) -> bool:
    if not final.exists():
        return False
    if not (final / "dataset_info.json").is_file():
        raise ValueError(f"{final} is in the way: it is not a data set. Remove it.")
    shutil.rmtree(final / shards.PROGRESS, ignore_errors=True)
    source = files.read_json(final / "report.json").get("source", "elsewhere")
    print(f"{final} is complete, from {source}: nothing to do. Remove it to prepare it again.")
    return True


def _lock(folder: pathlib.Path):
    (folder / shards.PROGRESS).mkdir(parents=True, exist_ok=True)
    return files.lock(folder / shards.PROGRESS / "lock", str(folder))


def _spread(name: str, images: list[sources.Image], output: shards.Output) -> list[shards.Shard]:
    """Divides the images of a split into shards of equal numbers, give or take one."""
    most = MOST_SHARDS.get(name.rpartition("-")[2], 128)
    count = min(math.ceil(_estimate(images, output) / SHARD), most, len(images))
    edges = [len(images) * i // (count or 1) for i in range(count + 1)]
    return [
        shards.Shard(f"{name}.tfrecord-{i:05d}-of-{count:05d}", images[edges[i] : edges[i + 1]])
        for i in range(count)
    ]


def _estimate(images: list[sources.Image], output: shards.Output) -> int:
    """Bytes of images as records: name, label and framing add 100 at most."""
    original = sum(image.size + 100 for image in images)
    each = RAW if output.raw else RESIZED
    resized = len(images) * each * (output.shorter or 0) ** 2 // 256**2
    return resized if output.raw else min(original, resized) if resized else original


def _show(plan: Plan, options: argparse.Namespace, disk: pathlib.Path) -> None:
    """Prints what was found, and what will be written.

    Raises:
        ValueError: If the disk has too little room.
    """
    for split, (origin, images, classes) in plan.source.splits.items():
        least, most = (pick(classes.values(), default=0) for pick in (min, max))
        each = f"{least:,} to {most:,}" if least < most else f"{most:,}"
        size = _size(sum(image.size for image in images))
        print(f"{split}: {len(images):,} images ({size}) of {len(classes):,} classes, {each} each,")
        print(f"    in {origin}")
    for split, count in missing(plan.source, options.name).items():
        print(f"    {count:,} of the {WHOLE[split]:,} {split} images of ImageNet are missing")
    done = [shards.read_done(shard, plan.output) for shard in plan.all_shards]
    estimates = [_estimate(of.images, plan.output) for of in plan.source.splits.values()]
    needed = max(0, sum(estimates) - sum(one["bytes"] for one in done if one))
    free = shutil.disk_usage(disk).free
    sizes = f"{_size(free)} are free, and about {_size(needed)} needed"
    print(f"{len(done):,} files in {plan.final}, of which {sum(map(bool, done)):,} are complete")
    print(f"    {sizes}", flush=True)
    if needed > free:
        raise ValueError(f"{disk} is too full: {sizes}. Make room, or name another DATA_DIR.")


def _size(count: int) -> str:
    """A number of bytes, in words.

    Example:

    >>> _size(153_400_000_000), _size(1_260_000)
    ('153.4 GB', '1.3 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
