"""Searches whose processes are killed at random moments, and which must lose no trial.

python -m tests.search_torture --kind alone --searches 20

Each search is one over the schedules of trainers/mnist.py on the embedded digits. With --kind alone
it is one process with two parallel trials; with --kind machines it is keras-tuner's chief and two
workers, each a process of its own. Any of these processes, or a trial, is killed. A killed process
is started again with the same command; a worker only every other time, if the other worker is
alive. In the end every process must have exited with 0, every trial must have ended once, and
nothing may be running. Otherwise the exit code is 1, and the folder stays.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tqdm

from keras_elu import data, environment
from tests.processes import children

ROOT = pathlib.Path(__file__).parents[1]
EXECUTIONS = 2  # of each trial
HUNG = 300  # seconds before a search counts as hung
CHIEF, WORKERS = "chief", ("worker-one", "worker-two")


class Search:
    """The processes of a search, by name."""

    def __init__(self, kind: str, trials: int, seed: int, folder: pathlib.Path):
        self.run, self._folder = folder / "run", folder
        self._command = [
            *(sys.executable, ROOT / "tuning" / "mnist.py", "--dataset", "digits"),
            *("--epochs", "6", "--steps_per_epoch", "20", "--checkpoint_every", "15"),
            *("--executions_per_trial", EXECUTIONS, "--max_trials", trials, "--seed", seed),
            *("--run_dir", self.run),
        ]
        self._alone, self._port = kind == "alone", _free_port()
        self.processes, self.codes = {}, {}
        for name in ("search",) if self._alone else (CHIEF, *WORKERS):
            self.start(name)

    def start(self, name: str) -> None:
        command, variables = list(map(str, self._command)), {}
        if self._alone:
            command += ["--parallel_trials", "2"]
        else:
            variables = {
                "KERASTUNER_TUNER_ID": name,
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(self._port),
            }
        self.codes.pop(name, None)
        with (self._folder / f"{name}.txt").open("a") as log:
            self.processes[name] = subprocess.Popen(
                command, env=os.environ | variables, stdout=log, stderr=log
            )

    def kill(self, name: str) -> bool:
        """Kills a process of the search, or a trial of any; returns whether there was one."""
        if name == "trial":
            running = [process.pid for process in self.processes.values()]
            pids = [trial for pid in running for trial in children(pid, b"tuning/trial.py")]
            if not pids:
                return False
            os.kill(random.choice(pids), signal.SIGKILL)
            return True
        process = self.processes.pop(name)
        process.kill()
        return process.wait() == -signal.SIGKILL

    @property
    def over(self) -> bool:
        """Whether all processes have ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.codes[name] = process.returncode
        return len(self.codes) == len(self.processes)

    def problems(self, trials: int) -> list[str]:
        """Returns everything that is wrong after the search."""
        found = [f"{name} ended with {code}" for name, code in self.codes.items() if code]
        held = json.loads((self.run / "oracle.json").read_text())["trials"]
        if len(held) != trials or any(trial["status"] != "COMPLETED" for trial in held):
            found.append(f"not every trial is complete: {[t['status'] for t in held]}")
        if len({json.dumps(t["hyperparameters"]["values"]) for t in held}) != len(held):
            found.append("two trials are the same")
        for trial in held:
            path = self.run / "trials" / trial["trial_id"]
            outcome = json.loads(path.with_suffix(".json").read_text())
            ends = path.with_suffix(".log").read_text(errors="replace").count("The run is in")
            if outcome["status"] not in ("complete", "pruned", "failed"):
                found.append(f"{path.name}: {outcome}")
            if outcome["status"] == "complete" and (ends, outcome["epochs"]) != (EXECUTIONS, 6):
                found.append(f"{path.name} ended {ends} times, with {outcome['epochs']} epochs")
            if outcome["status"] == "failed" and "not finite" not in outcome["reason"]:
                found.append(f"{path.name} failed: {outcome['reason']}")
        if not (self.run / "best.json").exists() or not (self.run / "schedules.png").exists():
            found.append("there is no best.json or no picture")
        for log in self._folder.glob("*.txt"):
            lines = log.read_text(errors="replace").splitlines()
            if said := {"constant", "cosine", "knots", "linear"}.intersection(lines):
                found.append(f"{log.name} contains keras-tuner's debugging print: {said}")
        if left := _processes_of(self.run):
            found.append(f"still running: {left}")
        return found

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def torture(kind: str, trials: int, seed: int, folder: pathlib.Path) -> tuple[dict, list[str]]:
    """Runs a search with one to three kills; returns their counts, and all that is wrong."""
    dice = random.Random(f"{kind} {seed}")
    folder.mkdir()
    search, counts = Search(kind, trials, seed, folder), collections.Counter()
    began = time.monotonic()
    try:
        for _ in range(dice.choice((1, 2, 3))):
            moment = time.monotonic() + dice.uniform(0, 25)
            while time.monotonic() < moment and not search.over:
                time.sleep(0.1)
            if search.over:
                break
            name = dice.choice([n for n in (*search.processes, "trial") if n not in search.codes])
            killed = search.kill(name)
            while name == "trial" and not killed and not search.over:  # no trial has started yet
                time.sleep(0.1)
                killed = search.kill(name)
            counts[f"kills of a {name.partition('-')[0]}"] += killed
            alive = any(n in search.processes for n in WORKERS)
            if name != "trial" and (name not in WORKERS or not alive or dice.random() < 0.5):
                search.start(name)
        while not search.over and time.monotonic() - began < HUNG:
            time.sleep(0.1)
        found = [] if search.over else [f"it hung: {sorted(search.processes)}, {search.codes}"]
        return counts, found or search.problems(trials)
    finally:
        search.end()


def _processes_of(run: pathlib.Path) -> list[str]:
    """Returns the command lines that name a folder, once they have had five seconds to end."""
    for _ in range(50):
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if str(run).encode() in line:
                found.append(line.replace(b"\0", b" ").decode())
        if not found:
            return []
        time.sleep(0.1)
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("alone", "machines"), required=True)
    parser.add_argument("--searches", type=int, required=True, metavar="N")
    parser.add_argument(
        "--trials", type=int, default=4, metavar="N", help="of each search (default: 4)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first search")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="searches at a time (default: 1)"
    )
    parser.add_argument("--results", type=pathlib.Path, help="file to append a line of JSON to")
    arguments = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="search-torture-"))
    os.environ |= {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(home / "data")}
    data.load("digits", data_dir=home / "data")
    counts, bad, began = collections.Counter(), {}, time.monotonic()
    seeds = range(arguments.seed, arguments.seed + arguments.searches)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {
            pool.submit(torture, arguments.kind, arguments.trials, seed, home / str(seed)): seed
            for seed in seeds
        }
        for future in tqdm.tqdm(concurrent.futures.as_completed(futures), total=len(futures)):
            happened, problems = future.result()
            counts.update(happened)
            if problems:
                bad[futures[future]] = problems
                print(f"{home / str(futures[future])}:", *problems, sep="\n  ", flush=True)
    summary = {
        "kind": arguments.kind,
        "searches": arguments.searches,
        "complete": arguments.searches - len(bad),
        "trials": arguments.trials,
        **counts,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "environment": environment.describe(),
    }
    print(*(f"{k}: {v}" for k, v in summary.items() if k != "environment"), sep="\n")
    if arguments.results:
        environment.append(arguments.results, summary)
    if not bad:
        shutil.rmtree(home)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
