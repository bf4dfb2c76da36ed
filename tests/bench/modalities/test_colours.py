"""The detector of coloured things, on what the simulator renders and on what it must not take for it."""

import numpy as np
import pytest

from vla.bench.modalities.colours import block_on_plate, of_colour
from vla.envs.recording import finish
from vla.envs.registry import env_spec, make_expert


def test_a_block_is_on_its_plate_when_the_expert_has_put_it_there() -> None:
    env = env_spec("tabletop/place").build({})
    expert, seen = make_expert("tabletop/place", env), 0
    for seed in range(900_000, 900_012):
        raw, _ = env.reset(seed=seed)
        block, plate = (env.layout.colours[thing] for thing in env.goal.things)
        if block == plate:
            continue
        seen += 1
        before = raw["images"]["front"].copy()
        after = finish(env, expert)[0]["images"]["front"]
        assert not block_on_plate(before, block, plate), seed
        assert block_on_plate(after, block, plate), seed
        others = {"red", "green", "blue", "yellow"} - {block, plate}
        assert not any(block_on_plate(after, other, plate) for other in others), seed
    assert seen > 5


@pytest.mark.parametrize(
    ("colour", "rgb"), [("red", (217, 26, 26)), ("blue", (31, 64, 230)), ("yellow", (242, 217, 26))]
)
def test_colours_are_known_in_the_shade_and_grey_is_none(colour: str, rgb: tuple[int, int, int]) -> None:
    shades = np.array([[np.array(rgb) * share for share in (1.0, 0.7, 0.4)] + [np.full(3, 150)]]).astype(np.uint8)
    assert of_colour(shades, colour).tolist() == [[True, True, True, False]]
    for other in {"red", "green", "blue", "yellow"} - {colour}:
        assert not of_colour(shades, other).any()
