"""The end of the work: the report of what was written and left out, and the metadata."""

import argparse
import os
import shutil
from typing import Any

from keras_elu import files
from keras_elu.prepare import archives, processes, shards
from keras_elu.prepare import plan as plans

SHOWN = 10  # names on the terminal, of each list


def finish(plan: plans.Plan, options: argparse.Namespace) -> None:
    """Writes the report and the metadata, and gives the folder its final name.

    Raises:
        Failed: If no image is intact to train on, or none to evaluate on.
    """
    import tensorflow_datasets as tfds

    folder = plan.output.folder
    report, infos = _report(plan, options), []
    for split in plan.source.splits:
        done = [shards.read_done(shard, plan.output) for shard in plan.shards[split]]
        if report["splits"][split]["written"]:
            lengths, sizes = ([one[key] for one in done] for key in ("images", "bytes"))
            infos.append(tfds.core.SplitInfo(split, lengths, sum(sizes)))
        else:  # TFDS does not read empty splits
            for shard in plan.shards[split]:
                (folder / shard.name).unlink()
    files.write_json(folder / "report.json", report)
    _print_left_out(report)
    written = {info.name for info in infos}
    if "train" not in written or len(written) < 2:
        which = (
            "No image"
            if not written
            else "No image to " + ("evaluate on" if "train" in written else "train on")
        )
        raise processes.Failed(f"{which} is intact: {folder / 'report.json'} says why.")
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=plan.output.features(),
        split_infos=infos,
        version=plan.final.name,
        check_data=False,
        description="Images by class, prepared by keras_elu.",
        supervised_keys=("image", "label"),
        homepage="https://image-net.org" if options.name == archives.IMAGENET else None,
    )
    files.complete(folder, plan.final)
    shutil.rmtree(plan.final / shards.PROGRESS, ignore_errors=True)
    print(
        f"{plan.final} is complete: "
        + ", ".join(f"{of['written']:,} {split}" for split, of in report["splits"].items())
        + f" images; {len(report['left_out']):,} left out, {len(report['converted']):,} converted, "
        f"{len(report['warnings']):,} with warnings: report.json names them."
    )


def _report(plan: plans.Plan, options: argparse.Namespace) -> dict[str, Any]:
    report = {
        "source": os.path.realpath(options.source),
        "missing": plans.missing(plan.source, options.name),
        "splits": {},
        "left_out": [{"image": name, "reason": why} for name, why in plan.source.left_out],
        "ignored": [{"file": name, "reason": why} for name, why in plan.source.ignored],
        "converted": [],
        "warnings": [],
    }
    for split, (origin, images, classes) in plan.source.splits.items():
        done = [shards.read_done(shard, plan.output) for shard in plan.shards[split]]
        report["splits"][split] = {
            "from": os.fspath(origin),
            "images": len(images),
            "written": sum(one["images"] for one in done),
            "bytes": sum(one["bytes"] for one in done),
            "classes": classes,
        }
        for key in ("left_out", "converted", "warnings"):
            report[key] += [
                {"image": f"{split}/{image}", "reason": reason}
                for one in done
                for image, reason in one[key]
            ]
    return report


def _print_left_out(report: dict[str, Any]) -> None:
    for key, noun in (("left_out", "image"), ("ignored", "file")):
        if report[key]:
            print(f"{len(report[key]):,} {key.replace('_', ' ')}:")
        for one in report[key][:SHOWN]:
            print(f"    {one[noun]}: {one['reason']}")
        if len(report[key]) > SHOWN:
            print(f"    and {len(report[key]) - SHOWN:,} more, in report.json")
