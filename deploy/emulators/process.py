"""An emulator in a child process: its bus keeps its time whatever the program that uses it does."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from multiprocessing.util import Finalize
from typing import Any

from vla.core.contract import Contract
from vla.core.errors import ConfigError, RobotError, VlaError
from vla.core.machine.priorities import kept_priorities, punctual
from vla.core.machine.processes import end_with_parent
from vla.core.machine.spawned import refuse_unguarded, spawn
from vla.deploy.cameras.shared import SharedCamera, SharedFrames
from vla.deploy.emulators.build import EmulatorConfig, build_emulator, build_world
from vla.deploy.emulators.control import Control, get, put
from vla.deploy.emulators.emulator import Emulator
from vla.deploy.worlds.world import Pictures, Tabletop, World

_START_S = 120.0
"""Building an environment and its renderer, on a busy machine."""
_END_S = 5.0
_SWITCH_S = 5e-4
"""How long the thread that renders may keep the one of the bus from running."""

_BUS_PRIORITY = 20


class EmulatorProcess:
    """Starts one, and ends it."""

    def __init__(self, config: EmulatorConfig, *, most_s: float = 0.3) -> None:
        """``most_s`` is how old a frame of its cameras may be."""
        refuse_unguarded()
        memory = os.memfd_create("vla-frames")
        try:
            self._process, pipe = spawn(_serve, config, DupFd(memory))
            Finalize(self, self._process.kill, exitpriority=0)  # or whoever forgets to close it never exits
            self.control = Control(pipe)
            try:
                hello = self._started(pipe)
            except BaseException:
                self.close()
                raise
            self.device = str(hello["device"])
            """The path of the line."""
            said = hello["contract"]
            self.contract = None if said is None else Contract.from_json(said, where="the emulator")
            """What its cameras and its task are, if it has any."""
            cameras = () if self.contract is None else self.contract.cameras
            frames = SharedFrames(cameras, memory) if cameras else None
            self.cameras = {c.name: SharedCamera(c.name, frames, most_s=most_s) for c in cameras if frames is not None}
        finally:
            os.close(memory)

    def close(self) -> None:
        """End it. May be called twice."""
        self.control.close()
        self._process.join(_END_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(_END_S)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.join(_END_S)

    def _started(self, pipe: Connection) -> dict[str, Any]:
        try:
            if not pipe.poll(_START_S):
                raise RobotError(f"the emulator did not start within {_START_S:g} s")
            hello = get(pipe)
        except (EOFError, OSError):
            self._process.join(_END_S)
            raise RobotError(f"the emulator died while it started (exit code {self._process.exitcode})") from None
        if "error" in hello:
            raise ConfigError(str(hello["error"]))
        return hello


@contextmanager
def running(config: EmulatorConfig, frames: int | None) -> Iterator[tuple[Emulator, World]]:
    """An emulator in this process, whose thread keeps the bus's time from here on; ``frames`` is where pictures go."""
    sys.setswitchinterval(_SWITCH_S)
    os.environ["LP_NUM_THREADS"] = "0"  # software GL then renders in the thread that asks, at its priority
    world = build_world(config)
    try:
        emulator = build_emulator(config, world)
    except BaseException:
        world.close()
        raise
    pictures = None
    try:
        if frames is not None and isinstance(world, Tabletop):
            memory = SharedFrames(world.contract.cameras, frames)
            pictures = Pictures(world, memory, hz=config.camera_hz)
        with kept_priorities():
            punctual(_BUS_PRIORITY)
            yield emulator, world
    finally:
        if pictures is not None:
            pictures.close()
        emulator.close()


def _serve(pipe: Connection, config: EmulatorConfig, memory: Any) -> None:
    """The child: builds the world, says where the line is, and runs until the pipe ends; ``memory`` is a `DupFd`."""
    end_with_parent()
    try:
        with running(config, memory.detach()) as (emulator, world):
            contract = None if world.contract is None else world.contract.to_json()
            put(pipe, {"device": emulator.device, "contract": contract})
            emulator.attend(pipe)
            emulator.run(lambda: True)
    except VlaError as error:
        put(pipe, {"error": str(error)})
