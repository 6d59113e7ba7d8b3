"""Prepares ImageNet, or any folder of pictures by class, as a data set of TFDS.

python -m keras_elu.prepare SOURCE DATA_DIR
python -m keras_elu.prepare SOURCE DATA_DIR --name my_set --resize 256

SOURCE holds the original ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, or the folders train
and val (or valid, validation) and test, in any case, with a folder of pictures for each class: JPEG
or PNG, WebP, BMP, GIF, TIFF and others. Pictures in folders below belong to the class. A split may
also be a folder of pictures with a table of labels, as in tiny-ImageNet and on Kaggle. Nothing is
extracted or moved. Every image is decoded once. Damaged images are left out; the terminal and the
report.json of the result name them, and all other files that are not used. Images are turned
upright as their EXIF orientation says, except those of imagenet2012. keras_elu.data.load(NAME,
data_dir=DATA_DIR) and tfds.load read the result. Rerun a stopped or killed command to resume it.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import tqdm

from keras_elu import commands, files, system
from keras_elu.prepare import archives, plan, processes, report, shards


class Interrupted(BaseException):
    """A signal; the message is its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns the exit code.

    It is 0 if the data set is complete; 1 if the disk is full, a file cannot be read, a process
    died, or no image is intact; 2 if the command line or SOURCE is wrong; 75 after a signal.

    Args:
        arguments: The command line. None: that of the process.
    """
    try:
        with _stopped_by_signals(), contextlib.ExitStack() as stack:
            options = _parse(arguments)
            try:
                todo = plan.begin(options, stack)
            except OSError as error:
                raise ValueError(f"{error.filename} cannot be used ({error.strerror}).") from error
            if todo:
                try:
                    _write_shards(todo, options.processes)
                    report.finish(todo, options)
                except OSError as error:
                    raise processes.Failed(shards.explain(error)) from error
    except (ValueError, processes.Failed) as error:
        return commands.failure(error)
    except Interrupted as interrupted:
        print(f"{interrupted}: stopped. Run the same command to resume.", file=sys.stderr)
        return commands.RESUMABLE
    return 0


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def stop(number, frame):
        for each in before:  # ending takes less than a second
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in processes.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = commands.Parser("keras_elu.prepare", __doc__)
    parser.add_argument("source", metavar="SOURCE", type=files.path, help="folder of the pictures")
    parser.add_argument(
        "data_dir", metavar="DATA_DIR", type=files.path, help="folder of prepared data sets"
    )
    parser.add_argument(
        "--name", default=archives.IMAGENET, help="name of the data set (default: %(default)s)"
    )
    parser.add_argument(
        "--resize",
        type=int,
        metavar="N",
        help="writes the set NAME_N, of images with N pixels on the shorter side where it is "
        f"longer, as JPEG of quality 90: with 256 about {plan.RESIZED:,} bytes an image of "
        f"ImageNet, which has {plan.ORIGINAL:,}",
    )
    parser.add_argument(
        "--validation_examples",
        type=int,
        metavar="N",
        help="holds out N of the training images where SOURCE has no validation images",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="writes the set NAME_N_raw, of their pixels, which need no decoding: with 256 about "
        f"{plan.RAW:,} bytes an image",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="(default: one for each available core)"
    )
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name):
        raise ValueError(f"--name must be lower-case letters, digits and _, not {options.name!r}.")
    if options.resize is not None and not 1 <= options.resize <= 1024:
        raise ValueError(f"--resize must be 1 to 1024 pixels, not {options.resize}.")
    if options.raw and not options.resize:
        raise ValueError(
            "--raw needs --resize: the pixels of whole images take ten times their room."
        )
    if options.validation_examples is not None and options.validation_examples < 1:
        raise ValueError(
            f"--validation_examples must be a positive number, not {options.validation_examples}."
        )
    if options.processes is None:
        options.processes = system.cores()
    if options.processes < 1:
        raise ValueError(f"--processes must be a positive number, not {options.processes}.")
    if not options.source.is_dir():
        raise ValueError(f"{options.source} is not a folder: name the one that holds the images.")
    return options


def _write_shards(todo: plan.Plan, count: int) -> None:
    """Writes the shards that are not complete."""
    jobs = [shard for shard in todo.all_shards if not shards.read_done(shard, todo.output)]
    total, left = (sum(len(shard.images) for shard in some) for some in (todo.all_shards, jobs))
    often = {"mininterval": 0.5} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 30}
    bar = tqdm.tqdm(total=total, initial=total - left, unit=" images", **often)
    with bar, contextlib.closing(processes.run(count, jobs, todo.output)) as counts:
        for count in counts:
            bar.update(count)


def command() -> NoReturn:
    """Runs `main` as the process, and ends it at once."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # TensorFlow would take seconds to shut down


if __name__ == "__main__":
    command()
