"""The adapter on Fetch, on an environment of Gymnasium's own, and on one that is not MuJoCo's."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from vla.core.contract import Dimension
from vla.core.errors import ConfigError, RenderError, UnknownNameError
from vla.envs.adapter.env import GymnasiumEnv
from vla.envs.adapter.setup import AdapterCamera, GymnasiumSetup, StateSlice
from vla.envs.fetch.table import FETCH
from vla.envs.recording import record_episode
from vla.envs.rendering import image_point
from vla.envs.spec import RobotEnv, SimulatorState


class Dot(gymnasium.Env[np.ndarray, np.ndarray]):
    """A dot on a line: it should come to 1, its action is turned round, and left of -1 it falls off."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = spaces.Box(-9.0, 9.0, (2,), np.float64)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.x = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(0.0, 1.1)
        return np.array([7.0, self.x]), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x -= 0.5 * float(action[0])
        return np.array([7.0, self.x]), -1.0, self.x < -1, False, {"there": self.x >= 1}

    def render(self) -> np.ndarray:
        picture = np.zeros((6, 8, 3), np.uint8)
        picture[:, int(np.clip(self.x, 0, 7))] = 255
        return picture


def _there(env: Dot, observed: np.ndarray) -> bool:
    return bool(observed[1] >= 1)


def _left_m(env: Dot, observed: np.ndarray) -> float:
    return float(1 - observed[1])


DOT = GymnasiumSetup(
    id="Dot-v0",
    robot="dot",
    cameras=(AdapterCamera(name="top", height=6, width=8),),
    state=(StateSlice(index=(1,), dimensions=(Dimension(name="x", unit="m", low=-1.0, high=1.0),)),),
    action=(Dimension(name="gripper", unit="1", low=-1.0, high=1.0),),
    flipped=("gripper",),
    gripper="gripper",
    control_hz=4.0,
    max_steps=5,
    sentences=("go right", "move to the right"),
    success=_there,
    distance_m=_left_m,
)


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    gymnasium.register("Dot-v0", Dot, max_episode_steps=2)
    yield
    del gymnasium.registry["Dot-v0"]


@pytest.fixture
def dot() -> GymnasiumEnv:
    return GymnasiumEnv(DOT)


@pytest.fixture(scope="module")
def pick() -> Iterator[RobotEnv]:
    env = FETCH["fetch/pick-and-place"].make({"image_size": 64})
    yield env
    env.close()


def test_gymnasium_accepts_what_it_makes(dot: GymnasiumEnv, pick: Any) -> None:
    for env in (dot, pick):
        assert isinstance(env, RobotEnv)
        check_env(env, skip_render_check=True)  # that part wants a name in Gymnasium's own registry


def test_states_exist_only_where_they_can_be_read(dot: GymnasiumEnv, pick: Any) -> None:
    assert not isinstance(dot, SimulatorState)
    assert isinstance(pick, SimulatorState)


def test_signs_state_pictures_and_time(dot: GymnasiumEnv) -> None:
    start, info = dot.reset(seed=1)
    assert (info["time_ns"], start["instruction"], dot.instruction_alternatives) == (
        0,
        "go right",
        ("move to the right",),
    )
    x = start["state"][0]
    then, reward, *_, info = dot.step(np.array([-0.5], np.float32))
    assert then["state"].dtype == np.float32
    np.testing.assert_allclose(then["state"], [x - 0.25], atol=1e-6)
    assert (reward, info["time_ns"]) == (-1.0, 250_000_000)
    assert then["images"]["top"].shape == (6, 8, 3)


def test_it_ends_with_success_only_and_progress_is_the_way_gone(dot: GymnasiumEnv) -> None:
    start, info = dot.reset(seed=1)
    assert info["progress"] == 0
    x = float(start["state"][0])
    move = (1 - x) / 2 / 0.5
    _, _, terminated, truncated, info = dot.step(np.array([move], np.float32))
    assert (terminated, truncated) == (False, False)
    assert info["progress"] == pytest.approx(0.5, abs=1e-5)
    assert info["metrics"]["distance_m"] == pytest.approx((1 - x) / 2, abs=1e-5)
    _, _, terminated, truncated, info = dot.step(np.array([1.0], np.float32))
    assert (terminated, truncated, info["success"], info["progress"]) == (True, False, True, 1.0)


def test_a_fall_truncates(dot: GymnasiumEnv) -> None:
    dot.reset(seed=1)
    ends = [dot.step(np.array([-1.0], np.float32))[2:4] for _ in range(4)]
    assert ends[0] == (False, False)
    assert ends[-1] == (False, True)


def test_the_environments_own_limit_is_off_and_ours_holds(dot: GymnasiumEnv) -> None:
    dot.reset(seed=1)
    assert [dot.step(np.zeros(1))[3] for _ in range(5)] == [False] * 4 + [True]


def test_solved_scenes_are_drawn_anew(dot: GymnasiumEnv) -> None:
    raw = GymnasiumEnv(replace(DOT, redraw_solved=False))
    seeds = range(60)
    assert sum(raw.reset(seed=seed)[1]["success"] for seed in seeds) > 0
    assert sum(dot.reset(seed=seed)[1]["success"] for seed in seeds) == 0
    assert dot.reset(seed=7)[0]["state"] == dot.reset(seed=7)[0]["state"]


def test_success_may_be_a_key_of_info() -> None:
    env = GymnasiumEnv(replace(DOT, success="there", distance_m=None, redraw_solved=False))
    _, info = env.reset(seed=1)
    assert (info["success"], info["progress"]) == (False, 0.0)
    assert "metrics" not in info
    for _ in range(3):
        _, _, terminated, _, info = env.step(np.ones(1))
        if terminated:
            break
    assert (info["success"], info["progress"]) == (True, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gripper": "grip"}, "action has no dimension 'grip', it has gripper"),
        ({"flipped": ("x",)}, "action has no dimension 'x'"),
        ({"success": "there"}, "says nothing at reset; set redraw_solved=False"),
        ({"sentences": ()}, "needs a sentence"),
        ({"state": (StateSlice(index=(0, 1), dimensions=()),)}, "2 indices and 0 dimensions"),
    ],
)
def test_descriptions_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(DOT, **changes)


def test_a_renderer_that_fails_is_reported(dot: GymnasiumEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> np.ndarray:
        raise OSError("no screen")

    monkeypatch.setattr(dot.inner, "render", broken)
    with pytest.raises(RenderError, match=r"OSError: no screen\); .* name a camera"):
        dot.reset(seed=0)


def test_language(dot: GymnasiumEnv) -> None:
    assert dot.reset(seed=0, options={"language": "blank"})[0]["instruction"] == ""
    with pytest.raises(ConfigError, match="this environment has one"):
        dot.reset(seed=0, options={"language": "wrong"})
    with pytest.raises(ConfigError, match="right, blank, wrong"):
        dot.reset(seed=0, options={"language": "left"})


def _numbers(env: Any, seed: int) -> list[np.ndarray]:
    observation, _ = env.reset(seed=seed)
    rng, seen = np.random.default_rng(seed), []
    for _ in range(6):
        seen += [observation["state"], env.sim_state(), *observation["images"].values()]
        observation = env.step(rng.uniform(-1, 1, 4).astype(np.float32))[0]
    return seen


def test_fetch_repeats_bit_for_bit(pick: Any) -> None:
    first = _numbers(pick, 3)
    fresh = pickle.loads(pickle.dumps(pick))
    assert any(not np.array_equal(a, b) for a, b in zip(first, _numbers(pick, 4), strict=True))
    for again in (_numbers(pick, 3), _numbers(fresh, 3)):
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
    fresh.close()


def test_fetch_is_restored_bit_for_bit(pick: Any) -> None:
    pick.reset(seed=5)
    expert = FETCH["fetch/pick-and-place"].expert(pick)  # type: ignore[misc]
    for _ in range(6):
        observation, *_ = pick.step(expert.action())
    state = pick.sim_state()
    onwards = [pick.step(expert.action())[0] for _ in range(4)][-1]
    back = pick.restore(state)
    np.testing.assert_array_equal(pick.sim_state(), state)
    again = [pick.step(expert.action())[0] for _ in range(4)][-1]
    for here, there in ((back, observation), (again, onwards)):
        np.testing.assert_array_equal(here["state"], there["state"])
        np.testing.assert_array_equal(here["images"]["front"], there["images"]["front"])


def test_the_goal_of_fetch_is_where_the_picture_shows_a_red_ball(pick: Any) -> None:
    red = 0
    for seed in range(8):
        image = pick.reset(seed=seed)[0]["images"]["front"].astype(int)
        point = image_point(pick.inner.model, pick.inner.data, "external_camera_0", pick.observed["desired_goal"])
        row, column = ((point + 1) / 2 * 64).clip(0, 63).astype(int)
        r, g, b = image[row, column]
        red += r - max(g, b) > 80
    assert red >= 5  # in the others it is behind the arm, or out of view


@pytest.mark.parametrize("name", ["fetch/reach", "fetch/push", "fetch/pick-and-place"])
def test_the_experts_of_fetch_succeed(name: str) -> None:
    spec = FETCH[name]
    env = spec.make({"cameras": []})
    assert spec.expert is not None
    expert = spec.expert(env)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        assert not info["success"]
        terminated = truncated = False
        while not (terminated or truncated):
            action = expert.action()
            np.testing.assert_array_equal(spec.expert(env).action(), action)
            _, _, terminated, truncated, _ = env.step(action)
        assert terminated, seed
    env.close()


def test_larger_numbers_open_the_gripper_of_fetch(pick: Any) -> None:
    pick.reset(seed=0)
    openings = []
    for sign in (-1, 1):
        for _ in range(8):
            state = pick.step(np.array([0, 0, 0.2, sign], np.float32))[0]["state"]
        openings.append(state[-2:].sum())
    assert openings[1] > openings[0] + 0.02
    assert pick.contract.gripper == "gripper"


def test_pictures_for_people(pick: Any, dot: GymnasiumEnv) -> None:
    pick.reset(seed=0)
    assert pick.render().shape == (256, 256, 3)
    assert dot.render().shape == (6, 8, 3)
    with pytest.raises(RenderError, match="no camera to look through"):
        GymnasiumEnv(replace(DOT, cameras=())).render()


def test_slide_has_no_expert_and_runs() -> None:
    spec = FETCH["fetch/slide"]
    assert spec.expert is None
    env = spec.make({"cameras": [], "max_steps": 2})
    observation, info = env.reset(seed=0)
    assert observation["instruction"] == spec.instruction
    assert info["goal"] == "slide"
    assert [env.step(np.zeros(4, np.float32))[3] for _ in range(2)] == [False, True]


def test_settings_of_fetch_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cameras'"):
        FETCH["fetch/reach"].make({"camera": []})
    with pytest.raises(UnknownNameError, match="did you mean 'front'"):
        FETCH["fetch/reach"].make({"cameras": ["frnt"]})


def test_episodes_of_fetch_are_recorded() -> None:
    spec = FETCH["fetch/reach"]
    env: Any = spec.make({"image_size": 32})
    assert spec.expert is not None
    episode = record_episode(env, spec.expert(env), task="fetch/reach", seed=0)
    env.close()
    assert episode.success
    assert episode.images["front"].shape == (len(episode), 32, 32, 3)
    assert episode.sim_state is not None


def test_an_environment_of_gymnasium_itself() -> None:
    """Reacher: two joints, an array as observation, torques."""
    dimensions = tuple(Dimension(name=name, unit="1", low=-1.0, high=1.0) for name in ("cos1", "cos2", "sin1", "sin2"))
    setup = GymnasiumSetup(
        id="Reacher-v5",
        robot="reacher",
        cameras=(),
        state=(StateSlice(index=(0, 1, 2, 3), dimensions=dimensions),),
        action=tuple(Dimension(name=f"torque{i}", unit="1", low=-1.0, high=1.0) for i in (1, 2)),
        control_hz=50.0,
        max_steps=50,
        sentences=("touch the target",),
        success=_touches,
        distance_m=_from_target_m,
    )
    env = GymnasiumEnv(setup)
    observation, info = env.reset(seed=0)
    assert observation["state"].shape == (4,)
    assert (info["goal"], info["success"], info["metrics"]["distance_m"] > 0.02) == ("Reacher-v5", False, True)
    assert env.step(np.ones(2))[0]["state"][0] != observation["state"][0]
    env.close()


def _from_target_m(env: Any, observed: np.ndarray) -> float:
    return float(np.linalg.norm(observed[8:10]))


def _touches(env: Any, observed: np.ndarray) -> bool:
    return _from_target_m(env, observed) < 0.02
