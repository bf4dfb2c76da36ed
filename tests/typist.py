"""Somebody at the keys of a terminal, in which a command runs."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

_PATIENCE_S = 60.0


class Typist:
    """A terminal in which the command runs, with somebody at its keys."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-m", "vla.cli.main", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.said = ""
        self._read_to = 0

    def wait_for(self, text: str) -> None:
        """Until the command says ``text`` (a pattern) behind what was waited for before."""
        deadline = time.monotonic() + _PATIENCE_S
        while (found := re.compile(text).search(self.said, self._read_to)) is None:
            ready, _, _ = select.select([self._master], [], [], 0.2)
            try:
                self.said += os.read(self._master, 4096).decode(errors="replace") if ready else ""
            except OSError:  # the command has ended
                pytest.fail(f"it ended before {text!r}: {self.said}")
            assert time.monotonic() < deadline, self.said
        self._read_to = found.end()

    def type(self, *keys: str, every_s: float = 0.0) -> None:
        """One after the other, each in a control period of its own."""
        for key in keys:
            os.write(self._master, key.encode())
            time.sleep(every_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
