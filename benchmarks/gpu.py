"""Everything that only GPUs can show, as one table: tests marked gpu, the audit, the benchmarks.

    python benchmarks/gpu.py

The exit code is 0 if every part holds, 1 if one does not, and 2 without a GPU.
"""

import argparse
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
PARTS = {
    "tests marked gpu": ["-m", "pytest", "-m", "gpu", "-q"],
    "audit of every replica": ["-m", "keras_elu.audit", "trainers/mnist.py", "--dataset", "digits",
                               "--strategy", "mirrored"],
    "the layer next to its peers": ["benchmarks/layers.py"],
    "the step next to stock Keras": ["benchmarks/steps.py"],
}  # fmt: skip


def cards() -> list[str]:
    """Returns the names of this machine's NVIDIA GPUs."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[:-1]
    except (OSError, subprocess.CalledProcessError):
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look for a GPU")
    options = parser.parse_args()
    found = cards()
    if not found:
        print("error: this machine has no NVIDIA GPU that nvidia-smi sees.", file=sys.stderr)
        return 2
    if options.check:
        return 0
    rows = []
    for name, arguments in PARTS.items():
        start = time.monotonic()
        code = subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode
        rows.append(
            (name, "holds" if code == 0 else f"ended with {code}", time.monotonic() - start)
        )
    print(f"\n{', '.join(found)}")
    for name, verdict, seconds in rows:
        print(f"{name:<30} {verdict:<15} {seconds:6.0f} s")
    return int(any(verdict != "holds" for _, verdict, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
