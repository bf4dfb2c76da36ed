"""A teleoperator of another package drives a robot of another package, and both are recorded."""

from pathlib import Path

import numpy as np

from vla.datasets.dataset import Dataset
from vla.deploy.control.recording import DriveRecorder
from vla.deploy.robots.table import make_robot
from vla.deploy.teleop.director import Director, Mark
from vla.deploy.teleop.session import demonstrate
from vla.deploy.teleop.table import make_teleoperator


def test_it_drives(tmp_path: Path) -> None:
    robot = make_robot("example-motors", {})
    by, director = make_teleoperator("example-wheel", robot, {"step": 0.02}), Director()

    def begin_at_once(recording: bool) -> None:
        if not recording:
            director.give(Mark.BEGIN)

    with DriveRecorder(tmp_path / "d", robot.contract, {}, task="turn") as recorder:
        settings = {"episodes": 1, "seconds": 0.5, "instruction": "turn it", "on_phase": begin_at_once}
        (done,) = demonstrate(by, robot, director, recorder, **settings)
    assert done.kept
    episode = Dataset.open(tmp_path / "d").read_episode(0)
    assert episode.instruction == "turn it"
    assert len(episode) == done.drive.steps
    moved = (episode.action - episode.state)[episode.valid]
    np.testing.assert_allclose(moved, 0.02, atol=1e-5)
    assert episode.images["eye"].shape == (len(episode), 8, 8, 3)
