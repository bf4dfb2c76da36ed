"""Splits: seen and unseen never meet, each changes exactly what it says, and every setting is checked."""

import colorsys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError, UnknownNameError
from vla.envs.splits import ALL, HELD_OUT_PHRASINGS, SPLITS, combination_is_held_out
from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.scene.mjcf import COLOURS
from vla.envs.tabletop.table import TABLETOP
from vla.envs.tabletop.tasks.task import is_held_out

SAMPLE = ("tabletop/place", "tabletop/push", "tabletop/spatial", "tabletop/tidy")


@pytest.fixture(scope="module", params=SAMPLE)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    made = TABLETOP[request.param].make({"image_size": 32})
    assert isinstance(made, TabletopEnv)
    yield made
    made.close()


def _begin(env: TabletopEnv, seed: int, split: str) -> dict[str, Any]:
    observation, _ = env.reset(seed=seed, options={"split": split})
    things = {thing: env.world.position_m(thing).copy() for thing in env.layout.spots_m}
    said = {env.instruction, *env.instruction_alternatives}
    return {"observation": observation, "goal": env.goal, "things": things, "said": said}


def _same_scene(a: dict[str, Any], b: dict[str, Any]) -> bool:
    things = all(np.array_equal(position, b["things"][thing]) for thing, position in a["things"].items())
    return a["goal"] == b["goal"] and things and np.array_equal(a["observation"]["state"], b["observation"]["state"])


def _front_differs(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Share of the front image's pixels that are not the same."""
    changed = np.abs(a["observation"]["images"]["front"].astype(int) - b["observation"]["images"]["front"]).max(axis=-1)
    return float((changed > 6).mean())


def test_combinations_are_kept_apart(env: TabletopEnv) -> None:
    for seed in range(6):
        for split in ("seen", "unseen-phrasing", "distractors", "viewpoint", "lighting", "background"):
            _begin(env, seed, split)
            assert not is_held_out(env.task, env.layout, env.goal)
        _begin(env, seed, "unseen-combination")
        assert is_held_out(env.task, env.layout, env.goal)


def test_wrong_words_stay_in_the_split_where_they_can(env: TabletopEnv) -> None:
    for seed in range(10):
        env.reset(seed=seed, options={"split": "seen", "language": "wrong"})
        possible = [g for g in env.task.goals(env.layout) if g != env._original_goal]
        seen = [g for g in possible if not is_held_out(env.task, env.layout, g)]
        assert env.goal in (seen or possible)


def test_one_combination_in_four_is_held_out_and_each_word_of_a_pair_is_seen() -> None:
    pairs = [(a, b) for a in range(4) for b in range(4)]
    held = [pair for pair in pairs if combination_is_held_out(pair)]
    assert len(held) == 4
    assert {a for a, b in held} == {b for a, b in held} == set(range(4))
    assert {a for a, b in pairs if (a, b) not in held} == set(range(4))


def test_phrasings_are_kept_apart(env: TabletopEnv) -> None:
    for seed in range(5):
        seen, unseen, every = (_begin(env, seed, split) for split in ("seen", "unseen-phrasing", ALL))
        assert not seen["said"] & unseen["said"]
        assert len(unseen["said"]) == HELD_OUT_PHRASINGS
        assert len(every["said"]) == len(env.task.templates)
        assert _same_scene(seen, unseen)
        assert _front_differs(seen, unseen) == 0


@pytest.mark.parametrize(
    ("split", "least"), [("distractors", 0.002), ("viewpoint", 0.05), ("lighting", 0.5), ("background", 0.3)]
)
def test_a_split_changes_what_it_says_and_nothing_else(env: TabletopEnv, split: str, least: float) -> None:
    changed = []
    for seed in range(5):
        seen, other = _begin(env, seed, "seen"), _begin(env, seed, split)
        assert _same_scene(seen, other)
        assert seen["said"] == other["said"]
        changed.append(_front_differs(seen, other))
        assert _front_differs(seen, _begin(env, seed, "seen")) == 0  # and leaves nothing behind
    assert np.mean(changed) > least


def test_distractors_stand_apart_and_fall_asleep(env: TabletopEnv) -> None:
    for seed in range(4):
        _begin(env, seed, "distractors")
        assert env.world.scene.extras == 3
        spots = [env.world.data.body(f"extra{i}").xpos[:2].copy() for i in range(3)]
        for spot in spots:
            assert all(
                np.linalg.norm(spot - at) > 0.085 for thing, at in env.layout.spots_m.items() if thing.kind != "drawer"
            )
        env.step(np.append(env.world.state()[:7], 0.08))
        after = [env.world.data.body(f"extra{i}").xpos[:2] for i in range(3)]
        np.testing.assert_allclose(after, spots, atol=0.004)


def test_the_default_is_seen_but_for_place_which_holds_nothing_out() -> None:
    for name, spec in TABLETOP.items():
        env = spec.make({"image_size": 16})
        assert isinstance(env, TabletopEnv)
        assert env.config.split == (ALL if name == "tabletop/place" else "seen")
        env.close()


def test_every_split_has_a_line_and_an_unknown_one_is_guessed(env: TabletopEnv) -> None:
    assert all(line and "\n" not in line for line in SPLITS.values())
    with pytest.raises(UnknownNameError, match="did you mean 'viewpoint'"):
        env.reset(seed=0, options={"split": "viewpoints"})
    with pytest.raises(UnknownNameError, match="did you mean 'seen'"):
        TABLETOP[env.task.name].make({"split": "sen"})


def test_a_split_without_scenes_says_so() -> None:
    env = TABLETOP["tabletop/lift"].make({"blocks": 1, "colours": ["red"], "image_size": 16})
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="no scene of split 'unseen-combination'"):
        env.reset(seed=0, options={"split": "unseen-combination"})
    env.close()


def test_shapes_and_tables_vary_and_the_words_follow() -> None:
    settings = {"shapes": ["cube", "cylinder", "bar", "post"], "tables": ["plain", "checker", "dots"], "image_size": 32}
    env = TABLETOP["tabletop/lift"].make(settings)
    assert isinstance(env, TabletopEnv)
    nouns, tables, solved = set(), set(), []
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        nouns.add(observation["instruction"].replace(" and lift it", "").split()[-1])
        tables.add(int(env.world.model.geom("table").matid[0]))
        expert, ended = TABLETOP["tabletop/lift"].expert(env), False
        while not ended:
            _, _, terminated, truncated, _ = env.step(expert.action())
            ended = terminated or truncated
        solved.append(terminated)
    assert len(tables) >= 2
    assert len({env.layout.shapes[block] for block in env.layout.things("block")}) >= 1
    assert all(solved)
    assert nouns & {"cylinder", "bar", "post"}
    env.close()


def test_a_shade_differs_and_its_hue_is_nearest_to_its_own_name() -> None:
    env = TABLETOP["tabletop/reach"].make({"shades": 1.0, "colours": list(COLOURS), "image_size": 16})
    assert isinstance(env, TabletopEnv)
    hues, strayed = {name: _hue(rgb) for name, rgb in COLOURS.items()}, []
    for seed in range(30):
        env.reset(seed=seed)
        for block in env.layout.things("block"):
            name, rgb = env.layout.colours[block], env.world.model.geom(block.name).rgba[:3]
            away = {other: abs((_hue(rgb) - hue + 0.5) % 1 - 0.5) for other, hue in hues.items()}
            assert min(away, key=lambda other: away[other]) == name
            strayed.append(np.linalg.norm(rgb - COLOURS[name]))
    assert np.mean(strayed) > 0.1
    env.close()


def _hue(rgb: Sequence[float]) -> float:
    return colorsys.rgb_to_hsv(*rgb)[0]


@pytest.mark.parametrize("shape", ["cylinder", "bar", "post"])
def test_every_shape_fits_into_a_closed_drawer(shape: str) -> None:
    env = TABLETOP["tabletop/tidy"].make({"shapes": [shape], "image_size": 16})
    env.reset(seed=4)
    expert, ended = TABLETOP["tabletop/tidy"].expert(env), False
    while not ended:
        _, _, terminated, truncated, _ = env.step(expert.action())
        ended = terminated or truncated
    assert terminated
    env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shapes": ["cub"]}, "did you mean 'cube'"),
        ({"shapes": []}, "must name at least one of cube"),
        ({"tables": ["wood"]}, "unknown table 'wood'"),
        ({"lighting": [0.5]}, "least, most"),
        ({"shades": 1.5}, "shades=1.5 must be between 0 and 1"),
        ({"viewpoint_deg": [5, 90]}, "within 0 and 40"),
        ({"drawers": 3}, "drawers=3"),
        ({"distractors": 9}, "distractors=9"),
        ({"max_steps": 0}, "max_steps=0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        TABLETOP["tabletop/lift"].make(settings)
