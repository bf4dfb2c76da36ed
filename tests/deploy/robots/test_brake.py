"""What a brake promises of its own: accelerations that can fade in time, and a way that is shown as it will be."""

import numpy as np
import pytest

from vla.deploy.robots.brake import Brake

SPEED, ACCELERATION = np.array([2.0, 3.0, 0.5]), np.array([10.0, 4.0, 2.0])


def brake_of(dt: float, jerk: float) -> Brake:
    return Brake(dt=dt, speed=SPEED, acceleration=ACCELERATION, jerk=np.full(3, jerk))


@pytest.mark.parametrize("dt", [0.02, 0.004])
@pytest.mark.parametrize("jerk", [40.0, 150.0, 1e9])
def test_there_is_always_an_acceleration_that_keeps_all_limits(dt: float, jerk: float) -> None:
    """Whatever was chosen before between the lowest and the highest of them."""
    joints = 150
    speed, acceleration = np.resize(SPEED, joints), np.resize(ACCELERATION, joints)
    brake = Brake(dt=dt, speed=speed, acceleration=acceleration, jerk=np.full(joints, jerk))
    rng, w, a = np.random.default_rng(0), np.zeros(joints), np.zeros(joints)
    share = np.zeros(joints)
    for _ in range(round(3 / dt)):
        low, high = brake.range(w, a)
        assert (low <= high + 1e-9).all()
        assert (np.maximum(np.abs(low), np.abs(high)) <= acceleration + 1e-9).all()
        assert (np.maximum(np.abs(low - a), np.abs(high - a)) <= brake.jerk * dt + 1e-9).all()
        share = np.where(rng.random(joints) < 2 * dt, rng.choice([0.0, 0.5, 1.0], joints), share)
        a = low + (high - low) * share
        w = w + a * dt
        assert (np.abs(w) <= speed + 1e-9).all()


@pytest.mark.parametrize("faster", [0.0, 1.0])
@pytest.mark.parametrize("jerk", [150.0, 1e9])
def test_a_way_that_is_looked_at_shows_all_joints_at_the_same_time(jerk: float, faster: float) -> None:
    """Also of joints that have become faster until now."""
    dt = 0.0005  # so often that not every place is shown
    brake = brake_of(dt, jerk)
    u, w = np.zeros(3), np.array([1.5, -2.5, 0.3])
    a = faster * np.sign(w) * ACCELERATION
    (shown,) = brake.ways(u[None], w[None], a[None])
    passed = [u]
    while (np.abs(w) > 1e-9).any():
        a = brake.next(w, a)
        w = w + a * dt
        u = u + w * dt
        passed.append(u)
    truth = np.stack(passed)
    assert 50 < len(shown) < 0.9 * len(truth)
    apart = np.abs(shown[:, None] - truth).max(axis=2).min(axis=1)
    assert apart.max() < 1e-5
    np.testing.assert_allclose(shown[-1], truth[-1], atol=1e-6)


def test_a_way_that_is_not_looked_at_ends_where_the_other_does() -> None:
    brake = brake_of(0.002, 150.0)
    start = (np.array([[0.0, 0.0, 0.0]]), np.array([[1.9, -2.5, 0.3]]), np.array([[-2.0, 0.5, 1.0]]))
    (seen,) = brake.ways(*start)
    (end,), (low,), (high,) = brake.ends(*start)
    np.testing.assert_allclose(end, seen[-1], atol=1e-6)
    np.testing.assert_allclose(low, seen.min(axis=0), atol=1e-3)  # all that is passed lies between the two
    np.testing.assert_allclose(high, seen.max(axis=0), atol=1e-3)
