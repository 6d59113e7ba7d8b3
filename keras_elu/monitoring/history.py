"""A table of the metrics of every epoch."""

import csv
import pathlib
import sys
from typing import Any

import keras

from keras_elu.files import aside


class History(keras.callbacks.Callback):
    """Keeps a row of metrics for every epoch in a CSV file.

    If the disk refuses a row, a message on stderr says so, and the next epoch writes both.

    Args:
        path: The file.
    """

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self._path = path
        self.rows: list[dict[str, float]] = []
        self._failing = False

    def on_train_begin(self, logs=None):
        self.rows = []
        self._path.unlink(missing_ok=True)  # an attempt without a checkpoint may have left rows

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch, **{k: float(v) for k, v in (logs or {}).items()}})
        try:
            self.write()
            self._failing = False
        except OSError as error:
            if self._failing:
                return
            self._failing = True
            print(
                f"{self._path} could not be written ({error.strerror}): the run continues, and the "
                "next epoch tries again",
                file=sys.stderr,
                flush=True,
            )

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the latest epoch."""
        without = ("epoch", "images_per_second", "seconds")
        return {name: value for name, value in self.rows[-1].items() if name not in without}

    def write(self) -> None:
        """Writes the file."""
        with aside(self._path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(k for row in self.rows for k in row)))
            writer.writeheader()
            writer.writerows(self.rows)

    def get_state(self) -> dict[str, Any]:
        """Returns the state that a checkpoint saves."""
        return {"rows": self.rows}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a saved state."""
        self.rows = state["rows"]
        if self.rows:
            self.write()
