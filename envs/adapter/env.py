"""Any Gymnasium robot environment as a `RobotEnv`, from one description of what it shows and takes."""

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from vla.core.contract import Camera, Contract
from vla.core.errors import ConfigError, RenderError
from vla.core.fit import describe, limits
from vla.core.provenance import versions
from vla.envs.adapter.comparison import compare, make, state_of, told_success, truth
from vla.envs.adapter.setup import AdapterCamera, GymnasiumSetup
from vla.envs.gl import settle_gl
from vla.envs.mujoco_state import put_state, read_state
from vla.envs.rendering import CameraRenderer
from vla.envs.spec import LANGUAGES

_ANY = 1e6  # the limits of a state say what is usual; nothing holds an environment to them
_VIEW = 256
_DRAWS = 100
"""Scenes drawn at most until one is not solved from the start."""


class GymnasiumEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A Gymnasium environment behind the interface of this project; see `GymnasiumSetup`.

    It is terminated at success and only then: what ends an episode otherwise, a fall for example, truncates it.
    With ``observe``, positions, pictures and observation are brought to the same instant after each step, and
    ``sim_state`` and ``restore`` exist. ``language: wrong`` is refused: one environment has one task.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (the name and type are Gymnasium's)
    sim_state: Callable[[], np.ndarray]
    """float64 (m,): all that the next step depends on. There only with ``observe``."""
    restore: Callable[[np.ndarray], dict[str, Any]]
    """Go back to a state of the scene that `reset` has laid out; the observation there. There only with ``observe``."""

    def __init__(self, setup: GymnasiumSetup, render_mode: str | None = "rgb_array") -> None:
        self.setup = setup
        self.render_mode = render_mode
        self._outer = make(setup)
        """As the id means it: what is reset and stepped."""
        self.inner: Any = self._outer.unwrapped
        """Below its wrappers: what functions get, and MuJoCo's model."""
        try:
            compare(setup, self._outer)
        except BaseException:
            self._outer.close()
            raise
        _render_cheaply(self.inner, setup)
        self.contract = _contract(setup)
        self.instruction = ""
        self.instruction_alternatives: tuple[str, ...] = ()
        self.observed: Any = None
        """What the environment itself showed last."""
        self._renderers: dict[tuple[int, int], CameraRenderer] = {}
        self._sign = np.array([-1 if d.name in setup.flipped else 1 for d in setup.action], np.float32)
        self._low, self._high = limits(setup.action)
        self._steps, self._start_m = 0, 0.0
        if setup.observe is not None:
            self.sim_state, self.restore = self._sim_state, self._restore
        self.action_space = spaces.Box(self._low, self._high, dtype=np.float32)
        letters = "".join(sorted(set("".join(setup.sentences)) | {" "}))
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({c.name: spaces.Box(0, 255, c.shape, np.uint8) for c in self.contract.cameras}),
                "state": spaces.Box(-_ANY, _ANY, (len(self.contract.state),), np.float32),
                "instruction": spaces.Text(max_length=256, min_length=0, charset=letters),
            }
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return GymnasiumEnv, (self.setup, self.render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; as repeatable as the environment's own ``reset``."""
        super().reset(seed=seed)
        self._speak((options or {}).get("language", "right"))
        self._steps = 0
        for draw in range(_DRAWS):
            self.observed, facts = self._outer.reset(seed=seed if draw == 0 else None)
            self._settle()
            if not (self.setup.redraw_solved and self._succeeded(facts, at_reset=True)):
                break
        else:
            raise ConfigError(f"{self.setup.id}: {_DRAWS} scenes in a row are solved before the first step")
        self._start_m = self._distance_m()
        return self._observation(), self._info(facts, at_reset=True)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Run one control period; numbers beyond the limits are clipped."""
        action = np.array(action, dtype=np.float32)
        if action.shape != self._sign.shape or not np.isfinite(action).all():
            raise ValueError(f"{self.setup.id}: action must be {len(self._sign)} finite numbers, got {action!r}")
        action = action.clip(self._low, self._high) * self._sign
        self.observed, reward, ended, cut, facts = self._outer.step(action)
        self._settle()
        self._steps += 1
        info = self._info(facts)
        over = bool(ended) or bool(cut) or self._steps >= self.setup.max_steps
        return self._observation(), float(reward), info["success"], over and not info["success"], info

    def render(self) -> np.ndarray:
        """The first camera, 256 pixels high where it is the model's."""
        if not self.setup.cameras:
            raise RenderError(f"{self.setup.id}: there is no camera to look through; describe one")
        camera = self.setup.cameras[0]
        width = round(_VIEW * camera.width / camera.height)
        return self._picture(AdapterCamera(name=camera.name, model=camera.model, height=_VIEW, width=width))

    def close(self) -> None:
        """Free the GL contexts and the environment."""
        while self._renderers:
            self._renderers.popitem()[1].close()
        self._outer.close()

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use, as far as it is known: part of a result's provenance."""
        for camera in self.setup.cameras:
            if camera.model is not None:
                return self._camera(camera).description
        return f"render() of {self.setup.id}" if self.setup.cameras else "none"

    def _settle(self) -> None:
        """Bring positions up to the joints, which MuJoCo leaves one physics step ahead, and observe them."""
        if self.setup.observe is not None:
            mujoco.mj_forward(self.inner.model, self.inner.data)
            self.observed = self.setup.observe(self.inner)

    def _sim_state(self) -> np.ndarray:
        return np.append(read_state(self.inner.model, self.inner.data), self._steps)

    def _restore(self, state: np.ndarray) -> dict[str, Any]:
        assert self.setup.observe is not None
        put_state(self.inner.model, self.inner.data, state[:-1])
        self.observed = self.setup.observe(self.inner)
        self._steps = int(state[-1])
        return self._observation()

    def _camera(self, camera: AdapterCamera) -> CameraRenderer:
        size = camera.height, camera.width
        if size not in self._renderers:
            self._renderers[size] = CameraRenderer(self.inner.model, *size)
        return self._renderers[size]

    def _picture(self, camera: AdapterCamera) -> np.ndarray:
        if camera.model is not None:
            if self.setup.before_render is not None:
                self.setup.before_render(self.inner)
            return self._camera(camera).render(self.inner.data, camera.model)
        try:
            picture = self._outer.render()
        except Exception as error:  # whatever its own renderer meets without a screen
            why = settle_gl().problem or "for an environment of MuJoCo, name a camera of the model"
            raise RenderError(
                f"{self.setup.id}: its own render() failed ({type(error).__name__}: {error}); {why}"
            ) from error
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
            raise ConfigError(
                f"adapter of {self.setup.id}: camera {camera.name}: render() should give pictures of uint8, "
                f"got {describe(picture)}"
            )
        return picture.copy()

    def _observation(self) -> dict[str, Any]:
        images = {}
        for camera, said in zip(self.setup.cameras, self.contract.cameras, strict=True):
            image = images[camera.name] = self._picture(camera)
            if image.shape != said.shape:
                raise ConfigError(
                    f"adapter of {self.setup.id}: camera {camera.name} is said to be {camera.height} by "
                    f"{camera.width} pixels, render() gives {image.shape}; change it, or make=(width=…, height=…)"
                )
        return {"images": images, "state": state_of(self.setup, self.observed), "instruction": self.instruction}

    def _succeeded(self, facts: Mapping[str, Any], *, at_reset: bool) -> bool:
        success = self.setup.success
        if isinstance(success, str):
            return told_success(self.setup, facts, at_reset=at_reset)
        return truth(self.setup, success(self.inner, self.observed), "what the function returns")

    def _distance_m(self) -> float:
        far = self.setup.distance_m
        return float("nan") if far is None else float(far(self.inner, self.observed))

    def _info(self, facts: Mapping[str, Any], *, at_reset: bool = False) -> dict[str, Any]:
        success, distance_m = self._succeeded(facts, at_reset=at_reset), self._distance_m()
        gone = 0.0 if np.isnan(distance_m) else 1 - distance_m / max(self._start_m, 1e-9)
        info = {
            "goal": self.setup.name or self.setup.id,
            "success": success,
            "progress": 1.0 if success else float(np.clip(gone, 0.0, 0.99)),
            "time_ns": round(self._steps / self.setup.control_hz * 1e9),
        }
        return info if np.isnan(distance_m) else info | {"metrics": {"distance_m": distance_m}}

    def _speak(self, language: str) -> None:
        if language not in LANGUAGES:
            raise ConfigError(f"{self.setup.id}: language {language!r} must be one of {', '.join(LANGUAGES)}")
        if language == "wrong":
            raise ConfigError(
                f"{self.setup.id}: language 'wrong' needs another task that could be done in the same scene, "
                "and this environment has one; use 'blank'"
            )
        words = self.setup.sentences if language == "right" else ("",)
        self.instruction, self.instruction_alternatives = words[0], words[1:]


def _render_cheaply(inner: Any, setup: GymnasiumSetup) -> None:
    """Room for the described pictures, and no shadows or reflections, where the model is MuJoCo's."""
    model = getattr(inner, "model", None)
    if not isinstance(model, mujoco.MjModel):
        return
    frame = model.vis.global_
    frame.offheight = max(frame.offheight, _VIEW, *(c.height for c in setup.cameras))
    frame.offwidth = max(frame.offwidth, *(max(c.width, round(_VIEW * c.width / c.height)) for c in setup.cameras), 0)
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = False
    model.mat_reflectance[:] = 0


def _contract(setup: GymnasiumSetup) -> Contract:
    return Contract(
        robot=setup.robot,
        cameras=tuple(Camera(name=c.name, height=c.height, width=c.width) for c in setup.cameras),
        state=tuple(dimension for part in setup.state for dimension in part.dimensions),
        action=setup.action,
        gripper=setup.gripper,
        control_hz=setup.control_hz,
        versions=versions() | {name: metadata.version(name) for name in setup.packages},
    )
