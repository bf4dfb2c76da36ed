"""Disturbances: in proportion to each dimension, never beyond the limits, never of the gripper."""

from dataclasses import replace

import numpy as np
import pytest

from vla.core.contract import Contract, Dimension
from vla.core.errors import ConfigError
from vla.envs.disturbance import Disturbance
from vla.envs.metaworld.table import METAWORLD
from vla.envs.recording import deviations, record_episode
from vla.envs.registry import make_expert

CONTRACT = Contract(
    robot="r",
    cameras=(),
    state=(Dimension(name="x", unit="m", low=0.0, high=1.0),),
    action=(
        Dimension(name="joint", unit="rad", low=-3.0, high=3.0),
        Dimension(name="x", unit="m", low=0.0, high=np.pi),
        Dimension(name="dx", unit="1", low=-1.0, high=1.0),
        Dimension(name="free", unit="N", low=-np.inf, high=np.inf),
        Dimension(name="gripper", unit="1", low=-1.0, high=1.0),
    ),
    gripper="gripper",
    control_hz=10.0,
)


def test_deviations_are_in_proportion() -> None:
    noise, offset = deviations(Disturbance(), CONTRACT)
    np.testing.assert_allclose(noise, [0.02, 0.01, 0.2, 0, 0])
    np.testing.assert_allclose(offset, [0.05, 0.025, 0.5, 0, 0])


def test_commands_that_move_are_disturbed_within_their_limits_and_the_expert_recovers() -> None:
    name = "metaworld/reach"
    env = METAWORLD[name].make({"cameras": []})
    expert = make_expert(name, env)
    disturbance = Disturbance(episode_share=1.0)
    episode = record_episode(env, expert, task=name, seed=3, disturbance=disturbance)
    calm = record_episode(env, expert, task=name, seed=3)
    env.close()
    pushed = episode.action_executed - episode.action
    assert episode.success
    assert 0.2 < (np.abs(pushed[:, :3]).max(axis=1) > 0).mean() < 1
    assert np.abs(episode.action_executed).max() <= 1
    assert not pushed[:, 3].any()
    assert not (calm.action_executed - calm.action).any()


@pytest.mark.parametrize("change", [{"noise_move": -0.1}, {"step_share": 1.5}, {"offset_steps": 0}])
def test_impossible_disturbances(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(Disturbance(), **change)  # type: ignore[arg-type]
