"""Perturbations: late by exactly the steps asked for, lost and noisy as often as asked, and repeatable."""

import pickle
import warnings
from collections.abc import Iterator
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla.core.errors import ConfigError
from vla.envs.perturbations import PerturbationConfig, Perturbed, perturbed
from vla.envs.registry import env_spec, make_expert
from vla.envs.spec import RobotEnv, SimulatorState

ENV = "tabletop/place"


@pytest.fixture(scope="module")
def inner() -> Iterator[RobotEnv]:
    env = env_spec(ENV).make({})
    yield env
    env.close()


def _run(env: Any, steps: int = 8, seed: int = 5) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Observations and infos under fixed actions, the start included."""
    observation, info = env.reset(seed=seed)
    observations, infos = [observation], [info]
    rng = np.random.default_rng(1)
    still = env.unwrapped.world.state()  # what the robot does must not depend on what it sees
    for _ in range(steps):
        observation, _, _, _, info = env.step((still + rng.normal(0, 0.05, 8)).astype(np.float32))
        observations.append(observation)
        infos.append(info)
    return observations, infos


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    images = all(np.array_equal(image, b["images"][name]) for name, image in a["images"].items())
    return images and np.array_equal(a["state"], b["state"]) and a["instruction"] == b["instruction"]


def test_the_defaults_change_nothing(inner: RobotEnv) -> None:
    plain, _ = _run(inner)
    wrapped, _ = _run(Perturbed(inner, PerturbationConfig()))
    assert all(_equal(a, b) for a, b in zip(plain, wrapped, strict=True))


@pytest.mark.parametrize("late", [1, 3])
def test_observations_arrive_late_and_the_truth_does_not(inner: RobotEnv, late: int) -> None:
    plain, plain_infos = _run(inner)
    wrapped, infos = _run(Perturbed(inner, PerturbationConfig(observation_latency_steps=late)))
    for step, observation in enumerate(wrapped):
        assert _equal(observation, plain[max(0, step - late)])
    assert [info["time_ns"] for info in infos] == [info["time_ns"] for info in plain_infos]


def test_commands_take_effect_late_and_until_then_the_robot_holds(inner: RobotEnv) -> None:
    env = Perturbed(inner, PerturbationConfig(action_latency_steps=2))
    observation, _ = env.reset(seed=5)
    start, target = observation["state"], observation["state"] + np.float32(0.2)
    states = [env.step(target)[0]["state"] for _ in range(4)]
    np.testing.assert_allclose(states[1], start, atol=0.01)
    assert (np.abs(states[2] - start)[:7] > 0.05).all()
    assert (np.abs(states[3] - target)[:7] < 0.1).all()


def test_frames_are_lost_as_often_as_asked_and_the_state_is_not(inner: RobotEnv) -> None:
    plain, _ = _run(inner, steps=60)
    wrapped, _ = _run(Perturbed(inner, PerturbationConfig(dropped_frames=0.5)), steps=60)
    kept = np.array(
        [
            [np.array_equal(image, b["images"][name]) for name, image in a["images"].items()]
            for a, b in zip(plain, wrapped, strict=True)
        ]
    )
    assert kept[0].all()
    assert 0.3 < kept[1:].mean() < 0.7
    assert not np.array_equal(kept[:, 0], kept[:, 1])  # each camera for itself
    assert all(np.array_equal(a["state"], b["state"]) for a, b in zip(plain, wrapped, strict=True))
    for step in np.flatnonzero(~kept[:, 0]):
        assert np.array_equal(wrapped[step]["images"]["front"], wrapped[step - 1]["images"]["front"])


def test_noise_has_the_deviation_asked_for(inner: RobotEnv) -> None:
    plain, _ = _run(inner, steps=30)
    wrapped, _ = _run(Perturbed(inner, PerturbationConfig(image_noise=4.0, state_noise=0.01)), steps=30)
    pixels = np.concatenate([(b["images"]["front"].astype(float) - a["images"]["front"]).ravel()
                             for a, b in zip(plain, wrapped, strict=True)])  # fmt: skip
    assert abs(pixels.std() - 4.0) < 0.3
    ranges = np.array([d.high - d.low for d in inner.contract.state])
    states = np.array([(b["state"] - a["state"]) / ranges for a, b in zip(plain, wrapped, strict=True)])
    assert abs(states[:, :7].std() - 0.01) < 0.002


def test_noise_on_commands_moves_the_robot_within_its_limits(inner: RobotEnv) -> None:
    plain, _ = _run(inner)
    env = Perturbed(inner, PerturbationConfig(action_noise=0.02))
    wrapped, _ = _run(env)
    assert np.array_equal(wrapped[0]["state"], plain[0]["state"])
    assert not np.array_equal(wrapped[1]["state"], plain[1]["state"])
    env.step(env.action_space.high)  # the inner environment refuses nothing that is clipped before


def test_one_seed_gives_one_episode_whatever_ran_before(inner: RobotEnv) -> None:
    settings = PerturbationConfig(dropped_frames=0.3, image_noise=3.0, state_noise=0.01, action_noise=0.01)
    env = Perturbed(inner, settings)
    first, _ = _run(env)
    other, _ = _run(env, seed=6)
    again, _ = _run(env)
    assert all(_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not _equal(first[0], other[0])


def test_each_kind_of_noise_has_a_stream_of_its_own(inner: RobotEnv) -> None:
    alone, _ = _run(Perturbed(inner, PerturbationConfig(state_noise=0.01)))
    both, _ = _run(Perturbed(inner, PerturbationConfig(state_noise=0.01, image_noise=5.0)))
    assert all(np.array_equal(a["state"], b["state"]) for a, b in zip(alone, both, strict=True))


def test_gymnasium_accepts_it_and_it_is_the_environment_to_everyone_else(inner: RobotEnv) -> None:
    env = perturbed(inner, PerturbationConfig(observation_latency_steps=2, image_noise=2.0, state_noise=0.05))
    assert isinstance(env, RobotEnv)
    assert isinstance(env, SimulatorState)
    assert env.contract is inner.contract
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")  # it is, on purpose
        check_env(env, skip_render_check=True)
    env.reset(seed=0)
    state = env.sim_state()
    env.step(make_expert(ENV, env.unwrapped).action())
    env.restore(state)
    np.testing.assert_array_equal(env.sim_state(), state)
    assert env.render().shape == (256, 256, 3)


def test_it_pickles_with_its_environment(inner: RobotEnv) -> None:
    env = Perturbed(inner, PerturbationConfig(image_noise=2.0))
    copy = pickle.loads(pickle.dumps(env))
    a, _ = env.reset(seed=3)
    b, _ = copy.reset(seed=3)
    assert _equal(a, b)
    copy.close()


@pytest.mark.parametrize(
    "settings",
    [{"observation_latency_steps": -1}, {"dropped_frames": 1.5}, {"image_noise": float("nan")}, {"state_noise": -1.0}],
)
def test_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        PerturbationConfig(**settings)


def test_what_has_no_state_to_put_back_does_not_get_one(inner: RobotEnv) -> None:
    class Stateless(gymnasium.Wrapper[Any, Any, Any, Any]):
        contract = property(lambda _: inner.contract)
        instruction = property(lambda _: inner.instruction)
        instruction_alternatives = property(lambda _: inner.instruction_alternatives)
        renderer = property(lambda _: inner.renderer)

    assert not isinstance(perturbed(cast(RobotEnv, Stateless(cast(Any, inner))), PerturbationConfig()), SimulatorState)
