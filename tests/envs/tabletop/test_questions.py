"""What is asked of a table has one right answer, which the simulation is asked for in another way here."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError
from vla.core.media.boxes import read_box
from vla.core.types import BOX, PART, SCENE, Question
from vla.envs.metaworld.table import METAWORLD
from vla.envs.recording import finish, record_episode
from vla.envs.registry import env_spec, make_expert
from vla.envs.tabletop.scene.world import Thing

SETTINGS = {"image_size": 16}


def _env(name: str, **settings: Any) -> Any:
    return env_spec(name).build({**SETTINGS, **settings})


def _by_kind(env: Any, kind: str) -> dict[str, str]:
    return {q.text: q.answer for q in env.questions() if q.kind == kind}


def _called(env: Any, words: str) -> Thing:
    return next(thing for thing in env.layout.spots_m if words == f"the {env.layout.phrase(thing)}")


@pytest.fixture(scope="module")
def env() -> Any:
    return _env("tabletop/place")


@pytest.mark.parametrize("seed", range(12))
def test_relations_are_those_of_the_robot(env: Any, seed: int) -> None:
    """Left is +y and behind is +x, of what a person would measure on the table."""
    env.reset(seed=seed)
    found = _by_kind(env, "relation")
    assert found
    for text, answer in found.items():
        side = next(s for s in ("left of", "right of", "in front of", "behind") if f" {s} " in text)
        one, other = text.removeprefix("is ").split(f" {side} ")
        way = env.world.position_m(_called(env, one))[:2] - env.world.position_m(_called(env, other))[:2]
        ahead = {"left of": way[1], "right of": -way[1], "in front of": -way[0], "behind": way[0]}[side]
        assert abs(ahead) > 0.03
        assert answer == ("yes" if ahead > 0 else "no")


@pytest.mark.parametrize("seed", range(12))
def test_numbers_and_sides_are_counted(env: Any, seed: int) -> None:
    env.reset(seed=seed)
    colours = Counter(env.layout.colours.values())
    for text, answer in _by_kind(env, "number").items():
        assert answer == ["none", "one", "two", "three", "four"][colours[text.rsplit(" ", 1)[1]]]
    for text, answer in _by_kind(env, "side").items():
        side, named = (
            next((s, text.split(f" {s} ")[1]) for s in ("left of", "right of") if f" {s} " in text)
            if (" left of " in text or " right of " in text)
            else ("", "")
        )
        if not side:
            continue
        sign = 1 if side == "left of" else -1
        edge = env.world.position_m(_called(env, named))[1]
        beyond = [t for t in env.layout.spots_m if sign * (env.world.position_m(t)[1] - edge) > 0.001]
        assert answer == (f"the {env.layout.phrase(beyond[0])}" if beyond else "nothing")


def test_what_is_held_and_where_things_are_follow_the_episode(env: Any) -> None:
    env.reset(seed=3)
    expert = make_expert("tabletop/place", env)
    block, plate = (f"the {env.layout.phrase(thing)}" for thing in env.goal.things)
    seen, ended = [], False
    while not ended:
        seen.append((_by_kind(env, "hand")["what do you hold"], _by_kind(env, "place")[f"what is on {plate}"]))
        _, _, terminated, truncated, info = env.step(expert.action())
        ended = terminated or truncated
    assert info["success"]
    assert seen[0] == ("nothing", "nothing")
    assert (block, "nothing") in seen
    assert _by_kind(env, "hand")["what do you hold"] == "nothing"
    assert _by_kind(env, "place")[f"what is on {plate}"] == block
    said = Question(kind="deed", text="what was done", answer=f"put {block} on {plate}")
    assert replace(env.deed(), signals={}) == said


def test_a_question_says_where_its_things_are(env: Any) -> None:
    """As signals say of the task's: the first and the last of those that it and its answer are about."""
    env.reset(seed=5)
    seen = set()
    for question in env.questions():
        named = [thing for thing in env.layout.spots_m if f"the {env.layout.phrase(thing)}" in question.text]
        answer = [thing for thing in env.layout.spots_m if question.answer == f"the {env.layout.phrase(thing)}"]
        if question.kind == "relation":
            named.sort(key=lambda thing: question.text.index(env.layout.phrase(thing)))
        elif question.kind not in ("side", "place"):
            continue
        things = [*answer, *named]
        spots = np.concatenate([env.world.position_m(things[0]), env.world.position_m(things[-1])[:2]])
        np.testing.assert_allclose(question.signals["grounding"], spots, atol=1e-4)
        assert set(question.signals) == {"grounding", "pointing"}
        seen.add(question.kind)
    assert seen == {"relation", "side", "place"}
    many = [q for q in env.questions() if q.kind == "number" and q.answer in ("none", "three")]
    assert not any(question.signals for question in many)
    (aimed,) = [q for q in env.questions() if q.kind == "relation"][:1]
    env.reset(seed=5, options={"language": "wrong"})  # whatever the task is
    assert next(q for q in env.questions() if q.text == aimed.text) == aimed


def test_of_things_of_one_name_nobody_asks() -> None:
    env = _env("tabletop/spatial")
    for seed in range(6):
        env.reset(seed=seed)
        name = f"the {env.layout.phrase(env.layout.things('block')[0])}"
        assert not any(name in q.text or q.answer == name for q in env.questions())


def test_drawers_are_open_or_closed_and_not_between() -> None:
    env = _env("tabletop/drawer-open")
    env.reset(seed=1)
    (drawer,) = env.goal.things
    asked = f"is the {env.layout.phrase(drawer)} open"
    assert _by_kind(env, "drawer")[asked] == "no"
    env.world.set_slide(drawer, 0.03)
    env.world.settle()
    assert asked not in _by_kind(env, "drawer")
    finish(env, make_expert("tabletop/drawer-open", env))
    assert _by_kind(env, "drawer")[asked] == "yes"


def test_an_episode_keeps_its_questions(env: Any) -> None:
    expert = make_expert("tabletop/place", env)
    plain = record_episode(env, expert, task="t", seed=4)
    asked = record_episode(env, expert, task="t", seed=4, questions=5)
    assert not plain.questions
    assert len(asked.questions) == 6
    assert [q.step for q in asked.questions] == sorted(q.step for q in asked.questions)
    assert asked.questions[-1] == replace(env.deed(), step=len(asked) - 1)
    np.testing.assert_array_equal(plain.action_executed, asked.action_executed)  # asking changes nothing
    again = record_episode(env, expert, task="t", seed=4, questions=5)
    assert again.questions == asked.questions
    truth = {}
    env.reset(seed=4)
    for step in range(len(asked)):
        truth[step] = {q.text: q.answer for q in env.questions()}
        env.step(asked.action_executed[step])
    assert all(truth[q.step][q.text] == q.answer for q in asked.questions[:-1])


def test_kinds_and_answers_come_as_often(env: Any) -> None:
    """Most relations there are, and most plates are empty: as they come, one word would answer."""
    expert = make_expert("tabletop/place", env)
    kinds, yes = Counter[str](), Counter[str]()
    for seed in range(8):
        for q in record_episode(env, expert, task="t", seed=seed, questions=20).questions:
            kinds[q.kind] += 1
            yes[q.answer] += q.kind == "relation"
    assert min(kinds[kind] for kind in ("number", "relation", "side", "colour", "place", "hand")) > 12
    assert 0.25 < yes["yes"] / (yes["yes"] + yes["no"]) < 0.75


def test_an_environment_that_knows_none_is_refused() -> None:
    name = "metaworld/reach"
    made = METAWORLD[name].make({"cameras": []})
    with pytest.raises(ConfigError, match=r"questions: \w+ knows none; collect without them"):
        record_episode(made, make_expert(name, made), task=name, seed=0, questions=3)


def _one(env: Any, kind: str, text: str) -> list[str]:
    return [q.answer for q in env.questions() if (q.kind, q.text) == (kind, text)]


@pytest.mark.parametrize("seed", range(12))
def test_a_caption_names_every_thing_once_and_where_it_is(env: Any, seed: int) -> None:
    """From left to right, with what a person would measure between neighbours."""
    env.reset(seed=seed)
    (caption,) = _one(env, SCENE, "what is where")
    things = {f"a {env.layout.phrase(thing)}": env.world.position_m(thing)[:2] for thing in env.layout.spots_m}
    row = sorted(things, key=lambda name: -things[name][1])
    assert [name for _, name in sorted((caption.index(name), name) for name in things)] == row
    rest = caption
    for left, right in itertools.pairwise(row):
        relation = rest.removeprefix(left).removeprefix(", which is").split(" a ")[0].strip()
        ahead, along = things[left] - things[right]
        sides = {"left of": along > 0.03, "in front of": ahead < -0.03, "behind": ahead > 0.03}
        truth = [side for side, is_so in sides.items() if is_so]
        assert relation == (" and ".join(truth) or "beside")
        rest = rest[rest.index(right) :]
    for part in _one(env, PART, "what is beside what"):
        said = next(s for s in ("left of", "right of", "in front of", "behind") if f" {s} " in part)
        one, other = (thing.replace("a ", "the ") for thing in part.split(f" {said} "))
        assert _by_kind(env, "relation")[f"is {one} {said} {other}"] == "yes"


def test_captions_follow_what_happens(env: Any) -> None:
    env.reset(seed=3)
    expert = make_expert("tabletop/place", env)
    block, plate = (f"a {env.layout.phrase(thing)}" for thing in env.goal.things)
    seen, ended = [], False
    while not ended:
        seen += _one(env, SCENE, "what is where")
        _, _, terminated, truncated, _ = env.step(expert.action())
        ended = terminated or truncated
    assert f"{block} held" not in seen[0]
    assert f"{block} on" not in seen[0]
    assert any(caption.startswith(f"{block} held, ") and caption.count(block) == 1 for caption in seen)
    assert f"{block} on {plate}" in _one(env, SCENE, "what is where")[0]
    assert _one(env, PART, "what lies on what") == [f"{block} on {plate}"]


def test_what_stands_on_another_block_is_on_it() -> None:
    env = _env("tabletop/stack")
    env.reset(seed=2)
    finish(env, make_expert("tabletop/stack", env))
    upper, lower = (f"a {env.layout.phrase(thing)}" for thing in env.goal.things)
    assert f"{upper} on {lower}" in _one(env, SCENE, "what is where")[0]


def test_captions_tell_scenes_apart(env: Any) -> None:
    found = Counter[str]()
    for seed in range(150):
        env.reset(seed=seed)
        found.update(_one(env, SCENE, "what is where"))
    assert sum(number for number in found.values() if number == 1) >= 0.95 * 150


def test_an_episode_keeps_its_captions(env: Any) -> None:
    """Of its first and last moment too, true of those; and other questions are asked as without."""
    expert = make_expert("tabletop/place", env)
    asked = record_episode(env, expert, task="t", seed=4, questions=3)
    told = record_episode(env, expert, task="t", seed=4, questions=3, captions=4, parts=2)
    own = told.questions[len(asked.questions) :]
    assert told.questions[: len(asked.questions)] == asked.questions
    assert [q.kind for q in own] == [SCENE] * 4 + [PART] * 2
    last = len(told) - 1
    steps = [q.step for q in own]
    assert (steps[0], steps[3], steps[4:]) == (0, last, [0, last])
    assert steps[:4] == sorted(set(steps[:4]))
    truth = []
    env.reset(seed=4)
    for action in told.action_executed:
        truth.append({q.answer for q in env.questions() if q.kind in (SCENE, PART)})
        env.step(action)
    assert all(q.answer in truth[q.step] for q in own)
    assert len(record_episode(env, expert, task="t", seed=4, captions=500).questions) == len(told)


def test_where_things_are_is_asked_deliberately() -> None:
    """Among the other questions it never is, and what is asked and told beside boxes is what it was without."""
    env = _env("tabletop/place", max_steps=12)
    expert = make_expert("tabletop/place", env)
    plain = record_episode(env, expert, task="t", seed=4, questions=60, captions=3, parts=2)
    boxed = record_episode(env, expert, task="t", seed=4, questions=60, captions=3, parts=2, boxes=5)
    assert not any(q.kind == BOX for q in plain.questions)
    assert boxed.questions[: len(plain.questions)] == plain.questions
    own = boxed.questions[len(plain.questions) :]
    assert [q.kind for q in own] == [BOX] * 5
    assert [q.step for q in own] == sorted({q.step for q in own})
    truth = []
    env.reset(seed=4)
    for action in boxed.action_executed:
        truth.append(_by_kind(env, BOX))
        env.step(action)
    for q in own:
        assert truth[q.step][q.text] == q.answer
        assert read_box(q.answer) is not None
        assert set(q.signals) == {"grounding", "pointing"}  # of the thing that is asked for


def test_where_each_thing_is(env: Any) -> None:
    """Left for the camera, which faces the robot, is right for the robot."""
    env.reset(seed=5)
    found = _by_kind(env, BOX)
    assert set(found) == {f"where is the {env.layout.phrase(thing)}" for thing in env.layout.spots_m}
    row = sorted(env.layout.spots_m, key=lambda thing: env.world.position_m(thing)[1])
    boxes = [read_box(found[f"where is the {env.layout.phrase(thing)}"]) for thing in row]
    centres = [box.centre[0] for box in boxes if box is not None]
    assert centres == sorted(centres)
    assert len(centres) == len(row)
