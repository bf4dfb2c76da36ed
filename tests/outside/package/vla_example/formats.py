"""A format: a CSV file of one episode, a joint in each column."""

from pathlib import Path

import numpy as np

from vla.core.contract import Contract, Dimension
from vla.core.types import Episode
from vla.datasets.formats.source import Format, Hints


class CsvSource:
    """The next row is what was commanded."""

    notes = ("limits are ±10, since the file names none",)

    def __init__(self, path: Path, hints: Hints) -> None:
        names = path.read_text().splitlines()[0].split(",")
        self._rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)
        joints = tuple(Dimension(name=name, unit="rad", low=-10.0, high=10.0) for name in names)
        self.contract = Contract(robot="csv", cameras=(), state=joints, action=joints, control_hz=10.0)

    def __len__(self) -> int:
        """One."""
        return 1

    def read(self, number: int) -> Episode:
        """The file."""
        t = len(self._rows)
        action = np.concatenate([self._rows[1:], self._rows[-1:]])
        time_ns = np.arange(t, dtype=np.int64) * 100_000_000
        return Episode(
            images={},
            state=self._rows,
            action=action,
            action_executed=action,
            reward=np.zeros(t, np.float32),
            done=np.arange(t) == t - 1,
            valid=np.ones(t, bool),
            time_ns=time_ns,
            command_time_ns=time_ns,
            instruction="follow the file",
            task="csv",
            split="train",
            seed=0,
            success=None,
        )


CSV = Format(looks="a .csv file", recognise=lambda path: path.suffix == ".csv", open=CsvSource)
