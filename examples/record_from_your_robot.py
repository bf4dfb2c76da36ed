"""Demonstrations from a robot that only you have: say what it is, then hand over each step as it happens.

python examples/record_from_your_robot.py data/mine
"""

import argparse
import time
from pathlib import Path

import numpy as np

from vla import open_dataset
from vla.core.contract import Camera, Contract, Dimension
from vla.datasets.dataset import create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter

JOINTS = tuple(Dimension(name=n, unit="rad", low=-1.5, high=1.5) for n in ("pan", "tilt"))
CONTRACT = Contract(
    robot="my-pan-tilt",
    cameras=(Camera(name="eye", height=48, width=64),),
    state=JOINTS,
    action=JOINTS,
    control_hz=20.0,
)


def read_robot(step: int) -> tuple[np.ndarray, np.ndarray]:
    """In place of your cameras and encoders: an image (y, x, 3) uint8 and the joints in rad, float32."""
    return np.full((48, 64, 3), step % 256, np.uint8), np.float32([0.01 * step, 0.0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()

    create_dataset(arguments.dataset, CONTRACT)
    about = {"operator": "ada"}
    with EpisodeWriter(arguments.dataset, CONTRACT, about, instruction="look left", task="look") as episode:
        for step in range(arguments.steps):
            image, joints = read_robot(step)
            wanted = joints + np.float32(0.01)  # what the operator asks for
            episode.add(images={"eye": image}, state=joints, action=wanted, time_ns=time.monotonic_ns())
            time.sleep(1 / CONTRACT.control_hz / 10)  # your control period; shorter here, so that trying it is quick
        episode.finish(success=True)
    dataset = open_dataset(arguments.dataset)
    print(f"{len(dataset.episodes)} episode of {len(dataset)} steps in {arguments.dataset}")
