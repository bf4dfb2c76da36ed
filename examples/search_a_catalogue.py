"""A catalogue of things, found by words and by a picture: a dataset whose episodes are single pictures.

python examples/search_a_catalogue.py runs/two-tower/checkpoint data/catalogue "a red block"
vla search data/catalogue "a red block" --checkpoint runs/two-tower/checkpoint --html found.html
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vla import open_dataset, search_dataset
from vla.core.contract import Camera, Contract, Dimension
from vla.core.types import Episode
from vla.datasets.dataset import create_dataset
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.envs.rendering import CameraRenderer
from vla.envs.tabletop.scene.arm import HOME_RAD
from vla.envs.tabletop.scene.mjcf import COLOURS, NOUNS, Scene
from vla.envs.tabletop.scene.world import Thing, World

KINDS = {
    "block": Scene(blocks=1, shaped=True),
    "plate": Scene(plates=1),
    "bowl": Scene(bowls=1),
    "drawer": Scene(drawers=1),
}
NUMBER = (Dimension(name="number", unit="1", low=0.0, high=1e6),)


def contract(size: int) -> Contract:
    """What stands where a robot's would: a camera, and the number of the picture."""
    camera = Camera(name="front", height=size, width=size)
    return Contract(robot="catalogue", cameras=(camera,), state=NUMBER, action=NUMBER, control_hz=1.0)


def pictures(size: int, views: int) -> Iterator[tuple[str, np.ndarray]]:
    """The name of each thing, and a view of it: alone on the table, in some place."""
    rng = np.random.default_rng(0)
    for kind, scene in KINDS.items():
        world, thing = World(scene), Thing(kind, 0)
        renderer = CameraRenderer(world.model, size, size)
        for shape, noun in NOUNS.items() if kind == "block" else [("", kind)]:
            for colour, rgb in COLOURS.items():
                for _ in range(views):
                    world.clear()
                    world.set_arm(np.array([0.35, 0.0, 0.35]), np.array(HOME_RAD))
                    if shape:
                        world.shape(thing, shape)
                    if kind == "drawer":
                        world.set_slide(thing, rng.uniform(0.0, 0.1))
                    else:
                        world.put(thing, rng.uniform([0.42, -0.15], [0.58, 0.15]), rng.uniform(-0.5, 0.5))
                    world.paint(thing, rgb)
                    world.settle()
                    yield f"a {colour} {noun}", renderer.render(world.data, "front").copy()


def episode(name: str, picture: np.ndarray, number: int) -> Episode:
    """One step, whose instruction is the name of what it shows."""
    row = np.full((1, 1), number, np.float32)
    return Episode(
        images={"front": picture[None]}, state=row, action=row, action_executed=row,
        reward=np.zeros(1, np.float32), done=np.ones(1, bool), valid=np.ones(1, bool),
        time_ns=np.zeros(1, np.int64), command_time_ns=np.zeros(1, np.int64),
        instruction=name, task="catalogue", split="", seed=number, success=None,
    )  # fmt: skip


def write(root: Path, size: int, views: int) -> None:
    """The catalogue as a dataset."""
    create_dataset(root, contract(size))
    with SegmentWriter(root, contract(size), {"about": "things of the table, rendered"}) as writer:
        for number, (name, picture) in enumerate(pictures(size, views)):
            writer.append(episode(name, picture, number))
        publish(root, [writer.seal()], "a catalogue")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("words", nargs="?", default="a red block")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--views", type=int, default=4, help="pictures of each thing")
    arguments = parser.parse_args()

    if not arguments.dataset.exists():
        write(arguments.dataset, arguments.image_size, arguments.views)
    catalogue = open_dataset(arguments.dataset)
    print(f"{len(catalogue)} pictures of {len(catalogue.episodes.column('instruction')[0])} things")
    by_words = search_dataset(catalogue.url, arguments.words, arguments.checkpoint, hits=5)
    by_picture = search_dataset(catalogue.url, catalogue.frame("front", 0), arguments.checkpoint, hits=5)
    for asked, hits in ((arguments.words, by_words), ("the first picture", by_picture)):
        print(f"{asked}: " + ", ".join(f"{hit.facts()['instruction']} {hit.score:.2f}" for hit in hits))
