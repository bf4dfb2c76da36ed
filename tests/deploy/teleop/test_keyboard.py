"""Keys move what they are for by one step a period, by name, within limits; a tool goes straight."""

from dataclasses import replace

import numpy as np
import pytest

from tests.deploy.control.arms import Arm
from vla.core.contract import Contract, Dimension
from vla.core.errors import ConfigError, UnknownNameError
from vla.core.types import Observation
from vla.deploy.robots.motion import Motion
from vla.deploy.robots.simulated import SimulatedRobot
from vla.deploy.teleop.keyboard import Keyboard
from vla.deploy.teleop.table import make_teleoperator

FAST = Motion(speed=1e5, acceleration=1e8)


class Gripping(Arm):
    """Two joints, and a gripper between them."""

    def __init__(self, motion: Motion = FAST, order: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__(motion)
        pan, tilt = self.contract.action
        found = (pan, Dimension(name="jaw", unit="m", low=0.0, high=0.08), tilt)
        dimensions = tuple(found[i] for i in order)
        self.contract = replace(self.contract, state=dimensions, action=dimensions, gripper="jaw")
        self.state = np.array([0, 0.08, 0], np.float32)[list(order)]


def look(arm: Arm) -> Observation:
    return Observation(images={}, state=arm.state.copy(), instruction="", time_ns=0)


def asked(keyboard: Keyboard, arm: Arm, keys: str = "") -> dict[str, float]:
    for key in keys:
        keyboard.press(key)
    (chunk,) = keyboard.act([look(arm)])
    assert chunk is not None
    assert chunk.actions.shape == (1, len(arm.contract.action))
    arm.state = chunk.actions[0]
    return dict(zip([d.name for d in arm.contract.action], arm.state.round(6).tolist(), strict=True))


def test_each_key_moves_its_joint_once_a_period() -> None:
    arm = Gripping()
    keyboard = Keyboard(arm, step_rad=0.1, gripper_share=0.5)
    asked(keyboard, arm)
    assert asked(keyboard, arm) == pytest.approx({"pan": 0, "jaw": 0.08, "tilt": 0})
    assert asked(keyboard, arm, "qqqq") == pytest.approx({"pan": 0.1, "jaw": 0.08, "tilt": 0})
    assert asked(keyboard, arm, "qs,") == pytest.approx({"pan": 0.2, "jaw": 0.04, "tilt": -0.1})
    assert asked(keyboard, arm, "a.w?") == pytest.approx({"pan": 0.1, "jaw": 0.08, "tilt": 0})
    assert "q/a pan" in keyboard.help
    assert "./, jaw" in keyboard.help


def test_targets_stay_inside_and_steps_within_the_speed() -> None:
    arm = Gripping(Motion(speed=(1.0, 0.1, 1.0), acceleration=10.0))
    keyboard = Keyboard(arm, step_rad=100.0, gripper_share=1.0)
    asked(keyboard, arm)
    assert asked(keyboard, arm, "q,") == pytest.approx({"pan": 1 / 20, "jaw": 0.08 - 0.1 / 20, "tilt": 0})
    for _ in range(20):
        found = asked(keyboard, arm, ",")
    assert found["jaw"] == 0.0


def test_a_gripper_that_holds_something_keeps_its_target_over_a_pause() -> None:
    arm = Gripping()
    keyboard = Keyboard(arm)
    asked(keyboard, arm)
    for _ in range(4):
        asked(keyboard, arm, ",q")
        arm.state[1] = max(arm.state[1], 0.05)  # a thing is in between
    asked(keyboard, arm)
    arm.state[1] = 0.05
    keyboard.reset(0)
    assert asked(keyboard, arm)["jaw"] == 0.0
    arm.state[:] = 0.5, 0.06, 0.0  # somebody moved it
    keyboard.reset(0)
    assert asked(keyboard, arm, "q") == pytest.approx({"pan": 0.5, "jaw": 0.06, "tilt": 0})  # typed before


def test_a_joint_that_does_not_follow_is_not_pushed_further() -> None:
    arm = Gripping()
    keyboard = Keyboard(arm, step_rad=0.1)
    asked(keyboard, arm)
    for _ in range(20):
        found = asked(keyboard, arm, "q")
        arm.state[:] = 0, 0.08, 0  # something is in its way
    assert found["pan"] == pytest.approx(0.4)
    found = asked(keyboard, arm, "a")
    arm.state[:] = 0, 0.08, 0
    assert found["pan"] == pytest.approx(0.3)
    for _ in range(20):
        found = asked(keyboard, arm, ",")
        arm.state[:] = 0, 0.08, 0  # it holds something
    assert found["jaw"] == 0.0


def test_the_same_keys_move_the_same_joints_in_another_order() -> None:
    keys = {"pan": "ud", "tilt": ["+", "-"], "jaw": "oc"}
    one, other = Gripping(), Gripping(order=(2, 0, 1))
    for arm in (one, other):
        keyboard = Keyboard(arm, keys=keys)
        asked(keyboard, arm)
        for typed in ("u+", "uc", "-"):
            found = asked(keyboard, arm, typed)
        assert found == pytest.approx({"pan": 0.1, "jaw": 0.06, "tilt": 0}), arm.contract.action


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keys": {"elbow": "ud"}}, r"keys\.elbow: expected two keys for one of pan, jaw, tilt"),
        ({"keys": {"pan": "u"}}, "expected two keys"),
        ({"keys": {"pan": "ud", "tilt": "du"}}, "'d' moves pan already"),
        ({"step_rad": 0.0}, "a step of 0.0 rad must be positive"),
        ({"kinematics": "tabletop-panda"}, "kinematics are of joints joint1, .* which this robot has not"),
        ({"colour": 1}, "does not take these settings"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_teleoperator("keyboard", Gripping(), settings)


def test_names() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'keyboard'\?"):
        make_teleoperator("keybord", Gripping(), {})
    with pytest.raises(ConfigError, match="gives Gripping, which is no"):
        make_teleoperator("tests.deploy.teleop.test_keyboard:not_a_policy", Gripping(), {})
    many = tuple(Dimension(name=f"j{i}", unit="rad", low=-1, high=1) for i in range(19))
    arm = Gripping()
    arm.contract = Contract(robot="many", cameras=(), state=many, action=many, control_hz=10)
    with pytest.raises(ConfigError, match="more than there are keys"):
        Keyboard(arm)


def not_a_policy(robot: Arm) -> Arm:
    return robot


class Panda(Arm):
    """The tabletop's arm without its table, permuted: the kinematics find its joints by name."""

    def __init__(self, simulated: SimulatedRobot) -> None:
        super().__init__(FAST)
        order = (7, 3, 1, 0, 2, 6, 5, 4)
        found = tuple(simulated.contract.action[i] for i in order)
        self.contract = replace(simulated.contract, cameras=(), state=found, action=found)
        self.state = simulated.measure()[list(order)]


def test_the_tool_goes_straight_and_only_where_it_can() -> None:
    import mujoco

    from vla.envs.tabletop.scene.mjcf import Scene, build_mjcf

    simulated = SimulatedRobot("tabletop/place", settings={"image_size": 32})
    arm = Panda(simulated)
    simulated.close()
    model = mujoco.MjModel.from_xml_string(build_mjcf(Scene()))
    data = mujoco.MjData(model)

    def tool(found: dict[str, float]) -> np.ndarray:
        for name, value in found.items():
            if name != "gripper":
                data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        return data.site("tcp").xpos.copy()

    keyboard = Keyboard(arm, step_m=0.02)
    start = tool(asked(keyboard, arm))
    for _ in range(3):
        found = asked(keyboard, arm, "wr")
    np.testing.assert_allclose(tool(found) - start, [0.06, 0, 0.06], atol=2e-3)
    for _ in range(3):
        found = asked(keyboard, arm, "a,")
    np.testing.assert_allclose(tool(found) - start, [0.06, 0.06, 0.06], atol=2e-3)
    assert found["gripper"] == pytest.approx(0.02)
    for _ in range(60):
        far = asked(keyboard, arm, "w")
    assert tool(far)[0] < 0.9  # an arm is as long as it is
    found = asked(keyboard, arm, "s")
    np.testing.assert_allclose(tool(found)[0], tool(far)[0] - 0.02, atol=5e-3)  # what was asked beyond is forgotten
    keyboard.press("\t")
    before = found["joint1"]
    assert asked(keyboard, arm, "e")["joint1"] == pytest.approx(before + 0.05)
