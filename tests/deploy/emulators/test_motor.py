"""Paths lead from where they begin to where they end, evenly and on time; motors follow them, get warm and weak."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.deploy.emulators.motor import AMBIENT_C, Motor, Path, timed
from vla.deploy.worlds.plant import chain

TICKS = st.floats(-4096, 4096)


@given(TICKS, TICKS, st.just(0.0) | st.floats(1, 5000), st.just(0.0) | st.floats(1, 1e5))
def test_a_path_keeps_speed_and_acceleration(start: float, goal: float, speed: float, acceleration: float) -> None:
    lasts_s, ramp_s = timed(goal - start, speed, acceleration)
    path = Path(start, goal, 1.0, lasts_s, ramp_s)
    times = np.linspace(1.0, 1.0 + lasts_s, 80)
    places = np.array([path.at(t) for t in times])
    way = abs(goal - start)
    assert abs(places[-1] - goal) <= 1e-6 * (1 + way)
    assert (np.diff(places) * np.sign(goal - start) >= -1e-6 * (1 + way)).all()
    if lasts_s > 1e-3 and speed > 0:
        step_s = lasts_s / 79
        assert np.abs(np.diff(places)).max() <= speed * step_s * (1 + 1e-6) + 1e-6 * (1 + way)
        if acceleration > 0:
            change = np.abs(np.diff(places, 2)).max() / step_s**2
            assert change <= acceleration * (1 + 1e-3) + 1e-6 * (1 + way) / step_s**2


def test_a_new_goal_is_set_out_for_from_where_the_path_leads() -> None:
    plant, _ = chain(1)
    motor = Motor(plant, 0)
    motor.torque = True
    motor.aim(2148.0, lasts_s=0.2)
    for _ in range(50):
        motor.step(plant.dt_s)
        plant.step()
    assert motor.target == pytest.approx(2098, abs=1)
    motor.aim(2048.0, lasts_s=0.1)
    assert motor.target == pytest.approx(2098, abs=1)
    assert motor.aims == 2


def test_one_without_torque_stays_where_it_is_put() -> None:
    plant, _ = chain(1)
    motor = Motor(plant, 0)
    motor.aim(3000.0)
    motor.step(plant.dt_s)
    assert motor.target == pytest.approx(2048)
    assert motor.effort == 0
    plant.data.qfrc_applied[0] = 0.5  # a hand that turns it meets no force
    for _ in range(200):
        motor.step(plant.dt_s)
        plant.step()
    assert motor.position > 2300


def test_it_warms_up_with_what_it_holds() -> None:
    plant, _ = chain(1)
    motor = Motor(plant, 0)
    motor.torque, motor.share = True, 1.0
    motor.aim(40_000.0)  # as far as the joint goes, and further: it pulls with all it has
    for _ in range(500):
        motor.step(plant.dt_s)
        plant.step()
    warm = motor.temperature_c
    assert warm > AMBIENT_C
    motor.heating_c_s = 10.0
    motor.step(0.5)
    assert motor.temperature_c == pytest.approx(warm + 5, abs=0.5)


def test_a_weak_one_pulls_weakly() -> None:
    reached = []
    for share in (1.0, 0.05):
        plant, _ = chain(1)
        motor = Motor(plant, 0)
        motor.torque, motor.share = True, share
        motor.aim(2600.0)
        for _ in range(60):
            motor.step(plant.dt_s)
            plant.step()
        reached.append(motor.position)
    assert reached[0] > 2500 > 2300 > reached[1]
