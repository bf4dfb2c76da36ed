"""Joints in another order drive the same motion: through the loop, through a server, through a bridge."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.deploy.control.arms import FAST, Arm, spec
from tests.deploy.robots.rosbridge_peer import NAMES, Peer
from vla.cli.run import _policy as policy_of
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ContractError
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.control.loop import ControlLoop, Pace, Step
from vla.deploy.remote import RemotePolicy
from vla.deploy.robots.robot import Robot
from vla.deploy.robots.rosbridge import RosBridgeRobot
from vla.deploy.serving.server import PolicyServer
from vla.policies.acting import by_name

LIMITS = {"base": 1.0, "shoulder": 1.5, "elbow": 2.0}
ORDERS = [NAMES, ("elbow", "base", "shoulder")]
CAMERAS = (Camera(name="left", height=4, width=6), Camera(name="right", height=4, width=6))
AMOUNT = {"base": 0.03, "shoulder": -0.05, "elbow": 0.02}


def described(order: Sequence[str], cameras: Sequence[Camera] = CAMERAS) -> Contract:
    found = tuple(Dimension(name=n, unit="rad", low=-LIMITS[n], high=LIMITS[n]) for n in order)
    return Contract(robot="three", cameras=tuple(cameras), state=found, action=found, control_hz=20.0)


class Three(Arm):
    """Three joints and two cameras, in the order that is asked for."""

    def __init__(self, order: Sequence[str], cameras: Sequence[Camera] = CAMERAS) -> None:
        super().__init__(FAST)
        self.contract = described(order, cameras)
        self.state = np.array([LIMITS[n] / 10 for n in order], np.float32)
        self.pictures = {"left": np.full((4, 6, 3), 1, np.uint8), "right": np.full((4, 6, 3), 2, np.uint8)}

    def observe(self) -> Observation:
        return replace(super().observe(), images=self.pictures)


class Stepping:
    """Moves each joint by its own amount from where it is, in its own order, and learned so relative to its state."""

    def __init__(self, order: Sequence[str], cameras: Sequence[Camera] = CAMERAS, *, history: int = 1) -> None:
        relative = replace(
            spec(8, execute=2, committed=4), relative_to=tuple(order), robots=("three",), history=history
        )
        self.contract = replace(described(order, cameras), policy=relative)
        self._amount = np.array([AMOUNT[n] for n in order], np.float32)
        self.seen: list[Observation] = []
        self.resets = self.closed = 0

    def reset(self, slot: int) -> None:
        self.resets += 1

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [None if seen is None else self._chunk(seen) for seen in observations]

    def _chunk(self, seen: Observation) -> ActionChunk:
        self.seen.append(seen)
        rows = np.stack([seen.state + self._amount * (k + 1) for k in range(8)]).astype(np.float32)
        return ActionChunk(actions=rows, time_ns=seen.time_ns)

    def close(self) -> None:
        self.closed += 1


def motion(policy: Policy, robot: Robot, steps: int = 10, **pace: Any) -> list[dict[str, float]]:
    """What was asked of each joint in each step, by name."""
    done: list[Step] = []
    loop = ControlLoop(
        by_name(policy, robot.contract), robot, pace=Pace(**pace), on_step=done.append, instruction="move"
    )
    try:
        loop.run(steps)
    finally:
        loop.close()
    names = [d.name for d in robot.contract.action]
    asked = [step.asked for step in done if step.mode == "policy"]
    return [dict(zip(names, one.round(5).tolist(), strict=True)) for one in asked if one is not None]


EXPECTED = [{n: round(LIMITS[n] / 10 + AMOUNT[n] * k, 5) for n in NAMES} for k in range(1, 9)]


@pytest.mark.parametrize("robots", ORDERS)
@pytest.mark.parametrize("policies", ORDERS)
def test_through_the_loop(robots: Sequence[str], policies: Sequence[str]) -> None:
    found = motion(Stepping(policies), Three(robots, CAMERAS[::-1]))
    assert len(found) >= 8
    for one, right in zip(found, EXPECTED, strict=False):
        assert one == pytest.approx(right, abs=1e-4)


@pytest.mark.parametrize("robots", ORDERS)
def test_through_a_server(robots: Sequence[str]) -> None:
    policy = Stepping(ORDERS[1])
    with PolicyServer(policy, port=0).running() as address:
        policy.seen.clear()  # of its warm-up
        remote = by_name(RemotePolicy(address), described(robots))
        found = motion(remote, Three(robots))
        remote.close()  # type: ignore[attr-defined]  # either has it
    assert len(found) >= 4
    for one, right in zip(found, EXPECTED, strict=False):
        assert one == pytest.approx(right, abs=1e-4)
    assert all((seen.images["left"] == 1).all() and (seen.images["right"] == 2).all() for seen in policy.seen)


def test_a_server_is_run_by_name_from_the_command_line() -> None:
    policy, arm = Stepping(ORDERS[1]), Three(ORDERS[0])
    with PolicyServer(policy, port=0).running() as address, ExitStack() as stack:
        driver = policy_of(address, arm, stack)
        assert [d.name for d in driver.contract.action] == list(ORDERS[0])
        assert motion(driver, arm, 6)[0] == pytest.approx(EXPECTED[0], abs=1e-4)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.mark.parametrize("robots", ORDERS)
def test_through_a_bridge(peer: Peer, robots: Sequence[str]) -> None:
    joints = {n: {"low": -LIMITS[n], "high": LIMITS[n]} for n in robots}
    robot = RosBridgeRobot(
        joints=joints, motion={"speed": 3.0, "acceleration": 60.0, "stale_s": 5.0}, control_hz=20, port=peer.port,
        command_topic="/arm/joint_trajectory", stale_s=3.0, name="three",
    )  # fmt: skip
    found = motion(Stepping(ORDERS[1], ()), robot)
    robot.close()
    assert len(found) >= 3
    first = {n: AMOUNT[n] for n in NAMES}  # from where the peer's arm stands
    assert found[0] == pytest.approx(first, abs=2e-3)
    sent = [m["msg"] for m in peer.heard if m["op"] == "publish"]
    last = dict(zip(sent[-1]["joint_names"], sent[-1]["points"][0]["positions"], strict=True))
    assert peer.targets() == pytest.approx(last, abs=1e-6)
    for name in NAMES:
        assert np.sign(last[name]) == np.sign(AMOUNT[name]), name
    assert not peer.complaints


def test_what_is_decided_and_what_was_before_go_by_name_too() -> None:
    policy, arm = Stepping(ORDERS[1], history=2), Three(ORDERS[0])
    found = motion(policy, arm, 12, ahead=True)
    assert found
    told = [seen for seen in policy.seen if seen.committed is not None]
    assert told
    for seen in told:
        assert seen.committed is not None
        signs = np.sign(np.diff(np.concatenate([seen.state[None], seen.committed]), axis=0).sum(axis=0))
        assert signs.tolist() == [np.sign(AMOUNT[n]) for n in ORDERS[1]]
    later = [seen for seen in policy.seen if seen.history]
    assert later
    for seen in later:
        assert np.abs(seen.history[0].state - seen.state).max() < 0.2  # and not another joint's


def test_the_contract_says_the_robots_order_and_the_rest_of_the_policy() -> None:
    policy = Stepping(ORDERS[1])
    policy.contract = replace(
        policy.contract, policy=replace(policy.contract.policy, relative_to=("elbow", None, "base"))
    )
    ordered = by_name(policy, described(ORDERS[0]))
    assert [d.name for d in ordered.contract.state] == list(ORDERS[0])
    assert ordered.contract.policy is not None
    assert ordered.contract.policy.relative_to == (None, "base", "elbow")
    ordered.reset(0)
    ordered.close()  # type: ignore[attr-defined]
    assert (policy.resets, policy.closed) == (1, 1)


def test_more_than_the_order_is_refused_as_ever() -> None:
    policy = Stepping(ORDERS[1])
    assert by_name(policy, described(ORDERS[1])) is policy
    assert by_name(policy, described(("base", "elbow"))) is policy
    arm = Three(ORDERS[0])
    wide = replace(arm.contract.action[0], high=3.0)
    arm.contract = replace(arm.contract, action=(wide, *arm.contract.action[1:]))
    with pytest.raises(ContractError, match=r"action\.base: \[-1, 1\] rad ≠ \[-1, 3\] rad"):
        motion(policy, arm)
