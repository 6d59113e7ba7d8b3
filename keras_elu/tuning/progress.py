"""How far a search is."""

import sys
import time

import tqdm


class Progress:
    """Shows how far a search is: a bar on a terminal, and one line for every trial.

    Args:
        search: The search, which says what a trial is in one line, and which is the best.
        oracle: Its oracle, which knows the trials that have ended.
    """

    def __init__(self, search, oracle):
        self._search, self._oracle = search, oracle
        self._shown = set(oracle.ended)
        self._before, self._started = len(self._shown), time.monotonic()
        if self._shown:
            print(f"going on after {len(self._shown)} of {search.total} trials", flush=True)
        self._bar = tqdm.tqdm(
            total=search.total,
            initial=len(self._shown),
            desc="trials",
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar:20}|{postfix}",
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def update(self) -> None:
        """Shows the trials that have ended since the last time."""
        ended = dict(self._oracle.ended)
        for trial in ended.keys() - self._shown:
            self._shown.add(trial)
            self._bar.update(1)
            name, outcome = self._search.best()
            best = "none yet" if name is None else f"{outcome.value:.4g} of trial {name}"
            left = f"{len(ended)}/{self._search.total}, {self._left(len(ended))} left"
            self._bar.set_postfix_str(f"best {best}, {self._left(len(ended))} left")
            line = self._search.line(trial, ended[trial])
            tqdm.tqdm.write(f"{line}  (best {best}; {left})", file=sys.stdout)
            sys.stdout.flush()
        self._bar.refresh()

    def _left(self, ended: int) -> str:
        seconds = (time.monotonic() - self._started) / (ended - self._before)
        return tqdm.tqdm.format_interval(seconds * max(0, self._search.total - ended))

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()
