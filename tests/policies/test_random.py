import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.core.contract import Contract, Dimension
from vla.core.errors import ContractError
from vla.core.types import Observation, Policy
from vla.policies.random import MAX_SPEED_PER_S, RandomPolicy


def contract(low: float = -1.0, high: float = 1.0) -> Contract:
    return Contract(
        robot="r",
        cameras=(),
        state=(
            Dimension(name="b", unit="rad", low=-9.0, high=9.0),
            Dimension(name="a", unit="rad", low=-9.0, high=9.0),
        ),
        action=(
            Dimension(name="a", unit="rad", low=low, high=high),
            Dimension(name="b", unit="rad", low=low, high=high),
            Dimension(name="gripper", unit="m", low=0.0, high=0.1),
        ),
        control_hz=20.0,
    )


def see(a: float = 0.0, b: float = 0.0) -> Observation:
    return Observation(images={}, state=np.array([b, a], np.float32), instruction="", time_ns=7)


def chunks(policy: RandomPolicy, slot: int, count: int = 3) -> list[list]:
    observations = [None] * slot + [see()]
    return [policy.act(observations)[slot].actions.tolist() for _ in range(count)]


def test_it_is_a_policy():
    policy = RandomPolicy(contract(), horizon=5, seed=0)
    assert isinstance(policy, Policy)
    (chunk, nothing) = policy.act([see(), None])
    assert nothing is None
    assert chunk.actions.shape == (5, 3)
    assert chunk.actions.dtype == np.float32
    assert chunk.time_ns == 7


@settings(deadline=None, derandomize=True)
@given(
    st.floats(-3, 3, width=32),
    st.floats(-3, 3, width=32),
    st.integers(0, 2**32),
    st.floats(-2, 0),
    st.floats(1e-3, 2),
    st.integers(1, 40),
)
def test_targets_start_at_the_joints_stay_in_the_limits_and_move_slowly(a, b, seed, low, width, horizon):
    c = contract(low, low + width)
    (chunk,) = RandomPolicy(c, horizon=horizon, seed=seed).act([see(a, b)])
    lows, highs = (np.array([getattr(d, end) for d in c.action]) for end in ("low", "high"))
    assert (chunk.actions >= lows).all()
    assert (chunk.actions <= highs).all()
    start = np.clip([a, b, 0.05], lows, highs)
    step = MAX_SPEED_PER_S * (highs - lows) / 20 + 1e-6
    assert (np.abs(np.diff(chunk.actions, axis=0, prepend=start[None])) <= step).all()


def test_a_dimension_without_state_continues_from_its_last_target():
    policy = RandomPolicy(contract(), horizon=3, seed=1)
    first, second = (policy.act([see()])[0].actions[:, 2] for _ in range(2))
    assert abs(second[0] - first[-1]) <= MAX_SPEED_PER_S * 0.1 / 20 + 1e-6


def test_it_explores():
    policy = RandomPolicy(contract(), horizon=2000, seed=0)
    (chunk,) = policy.act([see()])
    assert (np.ptp(chunk.actions, axis=0) > [1.5, 1.5, 0.075]).all()


def test_determined_by_seed_slot_and_resets():
    a, b = (RandomPolicy(contract(), horizon=4, seed=3) for _ in range(2))
    first = chunks(a, 1)
    chunks(b, 0)  # what other slots do changes nothing
    assert chunks(b, 1) == first
    a.reset(1)
    second = chunks(a, 1)
    assert second != first
    b.reset(1)
    assert chunks(b, 1) == second
    assert chunks(RandomPolicy(contract(), horizon=4, seed=4), 1) != first
    assert chunks(RandomPolicy(contract(), horizon=4, seed=3), 0) != first


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (-np.inf, 1.0), (2.0, 1.0)])
def test_limits_must_be_finite_and_in_order(low, high):
    with pytest.raises(ContractError, match=r"action\.a: expected finite limits"):
        RandomPolicy(contract(low, high), horizon=4, seed=0)


def test_a_horizon_is_needed():
    with pytest.raises(ContractError, match="horizon: expected at least 1, got 0"):
        RandomPolicy(contract(), horizon=0, seed=0)
