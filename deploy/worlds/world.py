"""What stands around the emulated servos: nothing, or a tabletop with its task and its cameras."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import mujoco

from vla.core.contract import Contract
from vla.core.errors import ConfigError, RobotError
from vla.core.machine.priorities import punctual
from vla.deploy.cameras.shared import SharedFrames
from vla.deploy.servos.description import Description, Joint, Scale, read_description
from vla.deploy.worlds.plant import Plant, chain
from vla.envs.registry import env_spec
from vla.envs.tabletop.scene.mjcf import CAMERAS

_ROBOT = "tabletop-panda"
_FIRST_S = 60.0
_PRIORITY = 10
"""Of the thread that renders: below that of the bus."""


@runtime_checkable
class World(Protocol):
    """What the servos turn, and what follows from it."""

    description: Description
    plant: Plant
    lock: Any
    """Held while the simulation moves or is set."""

    @property
    def contract(self) -> Contract | None:
        """What its cameras and its task are, if it has any."""

    def begin(self, seed: int) -> dict[str, Any]:
        """Lay out the scene of that seed; what there is to say of it."""

    def status(self) -> dict[str, Any]:
        """How the scene stands."""

    def moved(self) -> None:
        """The plant has made a step."""

    def told(self) -> None:
        """A program has commanded something: the episode's time runs."""

    def close(self) -> None:
        """Let go of what it holds."""


class Chain:
    """Implements `World`: servos in a row, for programs that want servos and nothing else."""

    def __init__(self, servos: int, protocol: str) -> None:
        if not 1 <= servos <= 32:
            raise ConfigError(f"servos={servos} must be from 1 to 32")
        self.plant, names = chain(servos)
        self.lock, self.contract = threading.RLock(), None
        joints = {name: Joint(id=i + 1, low=-3.14, high=3.14) for i, name in enumerate(names)}
        self.description = Description(robot="chain", bus=protocol, joints=joints)

    def begin(self, seed: int) -> dict[str, Any]:
        """Nothing is laid out."""
        return {"instruction": "", "time_ns": time.monotonic_ns()}

    def status(self) -> dict[str, Any]:
        """There is no task."""
        return {"success": False, "finished": False, "seconds": self.plant.time_s}

    def moved(self) -> None:
        """Nothing follows."""

    def told(self) -> None:
        """No episode."""

    def close(self) -> None:
        """Nothing is held."""


class Tabletop:
    """Implements `World` by the tabletop environment itself: its model, its layout of scenes, its check of success."""

    def __init__(self, env: str, settings: Mapping[str, Any], description: str) -> None:
        from vla.envs.tabletop.env import TabletopEnv

        spec = env_spec(env)
        if spec.robot != _ROBOT:  # before anything is built
            raise ConfigError(f"env={env}: servos are emulated in the tabletop environments only; vla envs lists them")
        built = spec.build(settings)
        assert isinstance(built, TabletopEnv), "this robot stands in no other environment"
        self._env = built
        self.contract = built.contract
        self.description = read_description(description)
        self._require_fit(description)
        self._scale = Scale.of(self.description)
        self.plant = self._fresh_plant()
        self.lock = threading.RLock()
        self.laying = threading.Lock()
        """Held while the model changes, or is looked at as a whole."""
        self._every = round(1 / self.contract.control_hz / self.plant.dt_s)
        self._limit_s = built.config.max_steps / self.contract.control_hz
        self._begun_s: float | None = None
        self._steps, self._success = 0, False

    def begin(self, seed: int) -> dict[str, Any]:
        """See `World`."""
        with self.laying, self.lock:
            self._env.reset(seed=seed)
            self.plant.move_to(self._env.world.model, self._env.world.data)
            self._steps, self._begun_s, self._success = 0, None, False
        return {"instruction": self._env.instruction, "time_ns": time.monotonic_ns()}

    def status(self) -> dict[str, Any]:
        """See `World`."""
        seconds = 0.0 if self._begun_s is None else self.plant.time_s - self._begun_s
        return {"success": self._success, "finished": self._success or seconds >= self._limit_s, "seconds": seconds}

    def moved(self) -> None:
        """Look for success as often as the environment does, at the ends of control periods."""
        self._steps += 1
        if self._steps % self._every == 0 and self._begun_s is not None and not self._success:
            world = self._env.world
            with self.lock:  # a step leaves positions of bodies one substep behind the joints
                mujoco.mj_kinematics(world.model, world.data)
            self._success = self._env.reached(self._env.goal)

    def told(self) -> None:
        """See `World`."""
        if self._begun_s is None:
            self._begun_s = self.plant.time_s

    def copy_to(self, model: mujoco.MjModel | None, data: mujoco.MjData | None) -> tuple[Any, Any]:
        """The present for whoever renders, in ``data`` if it is of the present model."""
        world = self._env.world
        if model is not world.model or data is None:
            model, data = world.model, mujoco.MjData(world.model)
        with self.lock:
            data.qpos[:] = world.data.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        return model, data

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _fresh_plant(self) -> Plant:
        self._env.reset(seed=0)
        return Plant(self._env.world.model, self._env.world.data, self._scale)

    def _require_fit(self, name: str) -> None:
        ours = [(n, j.low, j.high) for n, j in self.description.joints.items()]
        theirs = [(d.name, d.low, d.high) for d in self.contract.action]
        if ours != theirs:
            raise ConfigError(f"description {name}: its joints and limits are not those of {self.contract.robot}")


class Pictures:
    """Renders the cameras of a tabletop at their own rate, in a thread of its own, into shared memory."""

    def __init__(self, world: Tabletop, frames: SharedFrames, *, hz: float) -> None:
        self._world, self._frames, self._period_s = world, frames, 1 / hz
        self._stop, self._ready = threading.Event(), threading.Event()
        self.late = 0
        """Periods that went by without a picture."""
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()
        if not self._ready.wait(_FIRST_S):
            raise RobotError(f"the cameras gave no picture within {_FIRST_S:g} s")

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        from vla.envs.rendering import CameraRenderer

        model: mujoco.MjModel | None = None
        data: mujoco.MjData | None = None
        renderer: CameraRenderer | None = None
        due = time.monotonic()
        while not self._stop.is_set():
            with self._world.laying:
                taken = time.monotonic_ns()
                before = model
                model, data = self._world.copy_to(model, data)
                if renderer is None or model is not before:
                    if renderer is not None:
                        renderer.close()
                    size = self._world.contract.cameras[0]
                    renderer = CameraRenderer(model, size.height, size.width)
                images = {name: renderer.render(data, name) for name in CAMERAS}
            for name, image in images.items():
                self._frames.write(name, image, taken)
            if not self._ready.is_set():  # the first pictures compile shaders for seconds
                punctual(_PRIORITY)  # or the bus would wait for the interpreter while this thread waits for a core
                self._ready.set()
            missed = max(0, int((time.monotonic() - due) / self._period_s))
            self.late += missed
            due += (missed + 1) * self._period_s
            self._stop.wait(max(0.0, due - time.monotonic()))
        if renderer is not None:
            renderer.close()
