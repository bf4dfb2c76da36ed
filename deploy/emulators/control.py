"""Talking to an emulator beside its bus: begin a scene, ask how it stands, cause a fault.

Messages are JSON objects, each behind its length (4 bytes, big-endian), over a pipe or a Unix socket. Asked are

    {"do": "begin", "seed": 7}     {"do": "status"}     {"do": "fault", "say": "silent:3+1s"}     {"do": "clear"}

and answered is an object, with ``error`` in it where what was asked cannot be.
"""

import json
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from vla.core.errors import RobotError
from vla.core.sealed import DamageError, parse_json

_MOST_BYTES = 1 << 20
ANSWER_S = 30.0
"""What a scene may take to be laid out."""


def put(pipe: Connection, message: dict[str, Any]) -> None:
    """Say something."""
    pipe.send_bytes(json.dumps(message).encode())


def get(pipe: Connection) -> dict[str, Any]:
    """Hear what was said; a `DamageError` if it is no JSON object, an `EOFError` if nobody is there any more."""
    return parse_json(pipe.recv_bytes(_MOST_BYTES))


class Control:
    """The asking end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    @staticmethod
    def connect(path: Path) -> "Control":
        """To the socket that ``vla emulate --control`` made."""
        try:
            pipe = Client(str(path), family="AF_UNIX")
        except OSError as error:
            raise RobotError(f"no emulator answers at {path}: {error.strerror}; start vla emulate --control") from None
        return Control(pipe)

    def begin(self, seed: int) -> dict[str, Any]:
        """Lay out the scene of that seed: ``instruction``, and ``time_ns`` from which frames show it."""
        return self._ask({"do": "begin", "seed": seed})

    def status(self) -> dict[str, Any]:
        """``success``, ``finished``, ``seconds`` of the episode, and ``counts`` of what the emulator noticed."""
        return self._ask({"do": "status"})

    def fault(self, text: str) -> None:
        """Cause a fault: see `vla.deploy.emulators.faults`; its times count from now."""
        self._ask({"do": "fault", "say": text})

    def clear(self) -> None:
        """End faults that can end."""
        self._ask({"do": "clear"})

    def close(self) -> None:
        """Hang up."""
        self._pipe.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            put(self._pipe, message)
            if not self._pipe.poll(ANSWER_S):
                raise RobotError(f"the emulator did not answer within {ANSWER_S:g} s")
            answer = get(self._pipe)
        except (OSError, EOFError):
            raise RobotError("the emulator is gone") from None
        except DamageError as error:
            raise RobotError(f"the emulator's answer is damaged: {error}") from None
        if "error" in answer:
            raise RobotError(f"the emulator: {answer['error']}")
        return answer
