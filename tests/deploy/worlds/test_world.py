"""The emulated arm is the environment's: the same commands have the same effect, up to what a tick can say."""

import numpy as np
import pytest

from vla.deploy.emulators.build import EmulatorConfig, build_world
from vla.deploy.emulators.dynamixel_servo import DynamixelServo
from vla.deploy.emulators.feetech_servo import FeetechServo
from vla.deploy.emulators.motor import Motor
from vla.deploy.servos.description import Scale
from vla.deploy.worlds.world import Tabletop
from vla.envs.registry import env_spec

SMALL = {"image_size": 16}
_PER_TICK = np.array([1 / 651.9] * 7 + [1 / 6400])


def _told_dynamixel(servo: DynamixelServo, goal: int, last: int) -> None:
    assert servo.write(116, goal.to_bytes(4, "little")) == 0


def _told_feetech(servo: FeetechServo, goal: int, last: int) -> None:
    speed = max(1, round(abs(goal - last) / 0.1))
    servo.write(41, bytes([0, *goal.to_bytes(2, "little"), 0, 0, *speed.to_bytes(2, "little")]))


@pytest.mark.parametrize(
    ("protocol", "servo", "setup", "told"),
    [
        (
            "dynamixel",
            DynamixelServo,
            [(10, b"\x04"), (112, (100).to_bytes(4, "little")), (64, b"\x01")],
            _told_dynamixel,
        ),
        ("feetech", FeetechServo, [(40, b"\x01")], _told_feetech),
    ],
)
def test_an_experts_commands_through_servos(protocol: str, servo: type, setup: list, told: object) -> None:
    world = build_world(EmulatorConfig(protocol=protocol, env="tabletop/place", settings=SMALL))
    assert isinstance(world, Tabletop)
    spec = env_spec("tabletop/place")
    env = spec.build(SMALL)
    expert = spec.expert(env)
    scale = Scale.of(world.description)
    plant = world.plant
    servos = [
        servo(joint.id, Motor(plant, i), baud=1_000_000) for i, joint in enumerate(world.description.joints.values())
    ]
    for one in servos:
        for address, data in setup:
            one.write(address, data)
    env.reset(seed=4)
    world.begin(4)
    for one in servos:
        one.reset()
    goals = [round(one.motor.position) for one in servos]
    worst, done, over = 0.0, False, 0
    while over < 10:  # the last command is held for a little, as what is released has to come to rest here too
        if not done:
            action = expert.action()
            _, _, done, _, info = env.step(action)
        over += done
        last, goals = goals, np.rint(scale.to_ticks(action)).astype(int).tolist()
        for one, goal, before in zip(servos, goals, last, strict=True):
            told(one, goal, before)
        world.told()
        for _ in range(20):
            for one in servos:
                one.step(plant.dt_s)
                one.motor.step(plant.dt_s)
            plant.step()
            world.moved()
        here = scale.to_units(np.array([one.motor.position for one in servos]))
        off = np.abs(here - env.world.state())[:7] / _PER_TICK[:7]
        worst = max(worst, 0.0 if done else float(off.max()))
        if world.status()["success"]:
            break
    status = world.status()
    world.close()
    env.close()
    assert worst < 8  # ticks, an eighth of a degree each
    assert (status["success"], info["success"]) == (True, True)


def test_time_runs_out_from_the_first_command() -> None:
    world = build_world(EmulatorConfig(protocol="dynamixel", env="tabletop/place", settings={**SMALL, "max_steps": 2}))
    world.begin(0)
    for _ in range(100):
        world.plant.step()
        world.moved()
    assert world.status() == {"success": False, "finished": False, "seconds": 0.0}
    world.told()
    for step in range(41):
        if step == 20:
            world.told()  # the time runs on
        world.plant.step()
        world.moved()
    status = world.status()
    world.close()
    assert (status["success"], status["finished"]) == (False, True)
    assert status["seconds"] == pytest.approx(0.205)
