"""The box of a thing is where the renderer shows it."""

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest

from vla.core.media.boxes import GRID, Box
from vla.envs.registry import env_spec, make_expert
from vla.envs.rendering import CameraRenderer, image_point
from vla.envs.tabletop.scene import sight
from vla.envs.tabletop.scene.sight import seen_box
from vla.envs.tabletop.scene.world import Thing


def _moments(name: str, seed: int, every: int = 8) -> Iterator[Any]:
    env = env_spec(name).build({"image_size": 16})
    env.reset(seed=seed)
    expert, ended, step = make_expert(name, env), False, 0
    while not ended:
        if step % every == 0:
            yield env
        _, _, terminated, truncated, _ = env.step(expert.action())
        ended, step = terminated or truncated, step + 1


class _Segments:
    """Which thing each pixel of the front camera shows, by painting each in a colour of its own, without light."""

    def __init__(self, env: Any) -> None:
        self._renderer = CameraRenderer(env.world.model, GRID, GRID)
        self._renderer._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True
        self._renderer._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True

    def of(self, env: Any, thing: Thing) -> np.ndarray:
        """Which pixels, (GRID, GRID)."""
        model, data = env.world.model, env.world.data
        picture = self._renderer.render(data, "front").astype(int)
        number = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2] - 1
        scene = self._renderer._scene
        geoms = {scene.geoms[i].segid: scene.geoms[i].objid for i in range(scene.ngeom)}
        own = {s for s, g in geoms.items() if g >= 0 and model.geom_bodyid[g] == model.body(thing.name).id}
        return np.isin(number, list(own))


def _tight(mask: np.ndarray) -> Box:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Box(*(int(x) for x in (columns[0], rows[0], columns[-1], rows[-1])))


@pytest.mark.parametrize(("name", "seed"), [("tabletop/place", 1), ("tabletop/put-in-bowl", 3)])
def test_boxes_are_those_of_the_rendered_picture(name: str, seed: int) -> None:
    """To a cell, where an edge runs through its middle; and nearly all of them exactly."""
    off: list[int] = []
    segments = None
    for env in _moments(name, seed):
        segments = segments or _Segments(env)
        for thing in env.layout.spots_m:
            mask, box = segments.of(env, thing), seen_box(env.world, thing)
            if box is None:
                assert mask.sum() < 40
                continue
            true = _tight(mask)
            off += [abs(getattr(true, side) - getattr(box, side)) for side in ("left", "top", "right", "bottom")]
    assert len(off) > 60
    assert max(off) <= 1
    assert np.mean(np.array(off) == 0) > 0.95


def test_a_mirrored_camera_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would see a picture that is mirrored, or upside down."""
    env = next(_moments("tabletop/place", 1))
    segments, camera = _Segments(env), sight._camera
    for signs in ([-1, 1, 1], [1, -1, 1]):
        monkeypatch.setattr(
            sight, "_camera", lambda world, s=signs: (camera(world)[0], camera(world)[1] * s, camera(world)[2])
        )
        things = list(env.layout.spots_m)
        assert any(seen_box(env.world, t) != _tight(segments.of(env, t)) for t in things)


def test_the_middle_is_where_signals_point() -> None:
    """A block alone, seen whole: its middle through the camera is near that of its box."""
    env = next(_moments("tabletop/place", 2))
    for thing in env.layout.things("block"):
        box = seen_box(env.world, thing)
        assert box is not None
        row, column = image_point(env.world.model, env.world.data, "front", env.world.position_m(thing))
        np.testing.assert_allclose(box.centre, ((column + 1) / 2 * GRID, (row + 1) / 2 * GRID), atol=1.5)


def test_what_is_hidden_or_out_of_view_has_no_box() -> None:
    env = next(_moments("tabletop/place", 2))
    world, block, other = env.world, *env.layout.things("block")
    assert seen_box(world, block) is not None
    world.put(block, np.array([0.5, 0.9]))
    world.settle()
    assert seen_box(world, block) is None  # beside the picture
    world.put(block, np.array([1.6, 0.0]))
    world.settle()
    assert seen_box(world, block) is None  # behind the camera
    world.put(block, np.array([0.45, 0.0]))
    world.put(other, np.array([0.502, 0.0]))
    world.settle()
    assert seen_box(world, other) is not None
    whole = seen_box(world, block)
    world.put(other, np.array([0.50, 0.0]), height_m=0.02)
    world.settle()
    hidden = seen_box(world, block)
    assert hidden is None or (whole is not None and hidden.bottom < whole.bottom)  # only what is seen of it
