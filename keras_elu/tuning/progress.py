"""Progress of a search: a bar on a terminal, and one line for every trial."""

import sys
import time

import tqdm


class Progress:
    """Shows the trials that have ended, the best one, and the time left.

    Args:
        search: The search: its number of trials, its best trial, and the text of a trial.
        oracle: Its oracle, which knows the trials that have ended.
    """

    def __init__(self, search, oracle):
        self._search, self._oracle = search, oracle
        self._shown = set(oracle.ended)
        self._before, self._started = len(self._shown), time.monotonic()
        if self._shown:
            print(f"resuming after {len(self._shown)} of {search.total} trials", flush=True)
        self._bar = tqdm.tqdm(
            total=search.total,
            initial=len(self._shown),
            desc="trials",
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar:20}|{postfix}",
            leave=False,
            disable=sys.stderr is None or not sys.stderr.isatty(),
        )

    def update(self) -> None:
        """Shows the trials that have ended since the last call."""
        ended = dict(self._oracle.ended)
        for trial in sorted(ended.keys() - self._shown):
            self._shown.add(trial)
            self._bar.update(1)
            name, outcome = self._search.best()
            best = "none yet" if name is None else f"{outcome.value:.4g} of trial {name}"
            left = self._left(len(ended))
            self._bar.set_postfix_str(f"best {best}, {left} left")
            line = self._search.line(trial, ended[trial])
            line += f"  (best {best}; {len(ended)}/{self._search.total}, {left} left)"
            tqdm.tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        self._bar.refresh()

    def _left(self, ended: int) -> str:
        seconds = (time.monotonic() - self._started) / (ended - self._before)
        return tqdm.tqdm.format_interval(seconds * max(0, self._search.total - ended))

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()
