"""Descriptions that are wrong: each part is contradicted by the environment, in one line that names both."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from vla.core.contract import Dimension
from vla.core.errors import ConfigError
from vla.envs.adapter.env import GymnasiumEnv
from vla.envs.adapter.setup import AdapterCamera, GymnasiumSetup, StateSlice
from vla.envs.fetch.setups import FetchConfig, fetch_setup
from vla.evaluation.evaluate import evaluate
from vla.evaluation.settings import RunConfig


class Line(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A dot on a line that should come to 1; what ``info`` and ``render`` give is asked for."""

    metadata = {"render_modes": ["rgb_array", "human"]}  # noqa: RUF012
    action_space: Any = spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space: Any = spaces.Dict({"at": spaces.Box(-9.0, 9.0, (2,)), "kind": spaces.Discrete(3)})

    def __init__(self, render_mode: str | None = None, info: Any = True, picture: Any = np.uint8, row: int = 2) -> None:
        self.render_mode, self._there, self._picture, self._row = render_mode, info, picture, row
        self.x = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 0.0
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        there = self.x >= 1 if self._there is True else self._there
        return self._look(), 0.0, False, False, {"is_there": there}

    def render(self) -> Any:
        return None if self._picture is None else np.zeros((6, 8, 3), self._picture)

    def _look(self) -> dict[str, Any]:
        return {"at": np.full(self._row, self.x), "kind": 1}


def _rescaled(**arguments: Any) -> gymnasium.Env[Any, Any]:
    """What the id means: its action counts ten times."""
    return wrappers.RescaleAction(wrappers.TimeLimit(Line(**arguments), 20), np.float32(-0.1), np.float32(0.1))


class _Hidden(gymnasium.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: Any) -> Any:
        return observation


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    made = {"Line-v0": Line, "Rescaled-v0": _rescaled, "Hidden-v0": lambda **arguments: _Hidden(Line(**arguments))}
    for name, entry in made.items():
        gymnasium.register(name, entry, max_episode_steps=3)
    yield
    for name in made:
        del gymnasium.registry[name]


LINE = GymnasiumSetup(
    id="Line-v0",
    robot="line",
    cameras=(AdapterCamera(name="top", height=6, width=8),),
    state=(StateSlice(key="at", index=(0,), dimensions=(Dimension(name="x", unit="m", low=-1.0, high=1.0),)),),
    action=(Dimension(name="dx", unit="m", low=-1.0, high=1.0),),
    control_hz=4.0,
    max_steps=10,
    sentences=("go right",),
    success="is_there",
    redraw_solved=False,
)


def _slice(key: str = "at", *index: int) -> tuple[StateSlice, ...]:
    names = [f"x{i}" for i in index]
    dimensions = tuple(Dimension(name=name, unit="m", low=-1.0, high=1.0) for name in names)
    return (StateSlice(key=key, index=index, dimensions=dimensions),)


def _action(low: float, high: float, count: int = 1) -> tuple[Dimension, ...]:
    return tuple(Dimension(name=f"d{i}", unit="m", low=float(low), high=float(high)) for i in range(count))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": _action(-10, 10)}, "action d0: -10 to 10 is described, it takes -1 to 1"),
        ({"action": _action(0, 2), "flipped": ("d0",)}, "action d0: 0 to 2, turned round, is described, it takes -1"),
        ({"action": _action(1, 1)}, "action d0: 1 to 1 is no range"),
        ({"action": _action(-1, 1, 2)}, r"action has shape \(1,\), \(2,\) are described"),
        ({"id": "CartPole-v1", "make": {}}, r"action: it takes Discrete\(2\), and only a Box of real numbers"),
        ({"id": "Lime-v0"}, "cannot be made: .* Did you mean"),
        ({"make": {"colour": "red"}}, r"cannot be made: .*unexpected keyword .*\(make has colour\)"),
        ({"packages": ("no-such-thing",)}, "cannot be made: No package metadata was found for no-such-thing"),
        ({"state": _slice("at", 0, 99)}, "state x99: index 99 of 'at', which has numbers 0 to 1"),
        ({"state": _slice("at", -1)}, "state x-1: index -1 of 'at', which has numbers 0 to 1"),
        ({"state": _slice("att", 0)}, "state 'att': the observation is a dictionary of at, kind, name one"),
        ({"state": _slice("", 0)}, "state array: the observation is a dictionary of at, kind, name one"),
        ({"state": _slice("kind", 0)}, r"state 'kind' is Discrete\(3\), and only numbers of a Box"),
        ({"cameras": (AdapterCamera(name="top", model="front"),)}, "top needs a MuJoCo model, and it has none"),
        ({"make": {"render_mode": "human"}}, "camera top is its own render.* made with 'human', and has rgb_array"),
        ({"id": "Rescaled-v0", "max_steps": 30, "action": _action(-0.1, 0.1)}, "max_steps=30 .* after 20 steps"),
        ({"id": "Hidden-v0", "observe": lambda env: env.x}, "observe would show what its own _Hidden hides"),
    ],
)
def test_what_the_spaces_contradict_is_an_error_when_it_is_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^adapter of {changes.get('id', 'Line-v0')}: .*{message}") as raised:
        GymnasiumEnv(replace(LINE, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"success": "is_theer"}, "success: unknown key of info 'is_theer': did you mean 'is_there'"),
        ({"make": {"info": "no"}}, r"success: info\['is_there'\] should be true or false, got 'no'"),
        ({"make": {"info": 0.5}}, "should be true or false, got 0.5"),
        ({"success": lambda env, observed: None}, "what the function returns should be true or false, got None"),
        ({"make": {"picture": np.float32}}, r"camera top: render\(\) should give pictures of uint8, got float32"),
        ({"make": {"picture": None}}, r"camera top: render\(\) should give pictures of uint8, got NoneType"),
        ({"cameras": (AdapterCamera(name="top", height=6, width=9),)}, r"6 by 9 pixels, render\(\) gives \(6, 8, 3\)"),
        ({"make": {"row": 1}, "state": _slice("at", 0, 1)}, "state x1: index 1 of 'at', which has numbers 0 to 0"),
    ],
)
def test_what_the_first_steps_contradict_is_an_error_there(changes: dict[str, Any], message: str) -> None:
    env = GymnasiumEnv(replace(LINE, **changes))

    def begin() -> None:
        env.reset(seed=0)
        env.step(np.zeros(1))

    with pytest.raises(ConfigError, match=f"^adapter of Line-v0: .*{message}"):
        begin()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control_hz": 30.0}, "control_hz=30 is described, a step takes 0.04 s: 25 Hz"),
        (
            {"cameras": (AdapterCamera(name="a", model="extern"),)},
            "camera a: unknown camera of its model 'extern'",
        ),
    ],
)
def test_models_of_mujoco_are_compared(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GymnasiumEnv(replace(fetch_setup("reach", FetchConfig()), **changes))


def test_an_id_means_what_it_wraps() -> None:
    """An action of 0.1 moves by 1, as a user of the id would see; and the limit that `make` adds is off."""
    env = GymnasiumEnv(replace(LINE, id="Rescaled-v0", action=_action(-0.1, 0.1)))
    env.reset(seed=0)
    assert env.step(np.array([-0.1]))[0]["state"] == pytest.approx([-1.0], abs=1e-6)
    assert [env.step(np.zeros(1))[3] for _ in range(9)] == [False] * 8 + [True]


def test_nothing_but_descriptions_that_hold_pass() -> None:
    env = GymnasiumEnv(LINE)
    env.reset(seed=0)
    assert env.step(np.ones(1))[2]
    GymnasiumEnv(replace(LINE, action=_action(-0.5, 0.25))).close()  # narrower is a choice


def test_an_evaluation_ends_with_the_line() -> None:
    """And counts it neither as crashes nor as failures."""
    with pytest.raises(ConfigError, match="unknown key of info 'is_theer'"):
        evaluate("random", env=f"{__name__}:Wrong", episodes=2, run=RunConfig(workers=1, batch=1))


class Wrong(GymnasiumEnv):
    """With a typing error."""

    def __init__(self) -> None:
        super().__init__(replace(LINE, success="is_theer"))
