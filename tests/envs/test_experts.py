"""A demonstrator may only know what a policy can see: what is hidden changes nothing of what it does.

Tried is what two moments may differ in while their pictures are alike: how long the episode has lasted, where its
things began, which number each of several things of one kind bears, what was seen a moment before. A policy that is
taught by what it cannot see learns the mean of several answers: with sort's blocks in the order of their numbers it
believed in a place between the two.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest

from vla.envs.disturbance import Disturbance
from vla.envs.metaworld.table import METAWORLD
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert
from vla.envs.robosuite.table import ROBOSUITE
from vla.envs.spec import Expert
from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.scene.layout import Layout
from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.table import TABLETOP
from vla.envs.tabletop.tasks.place import to_plate
from vla.envs.tabletop.tasks.push import PUSH
from vla.envs.tabletop.tasks.skills import rise
from vla.envs.tabletop.tasks.sort import _missing
from vla.envs.tabletop.tasks.task import Goal, Move, Situation

_EVERY = 7
"""Each seventh moment of an episode is tried."""
_KEPT = ("layout", "goal", "_steps")
"""What an environment knows of its episode beside the simulation."""

Hidden = dict[str, Callable[[Any], None]]


def _differences(name: str, env: Any, expert: Expert, hidden: Hidden, seeds: range) -> Counter[str]:
    """In how many moments each of the ``hidden`` changes made another action, along disturbed episodes."""
    found: Counter[str] = Counter()
    for seed in seeds:
        episode = record_episode(env, expert, task=name, seed=seed, disturbance=Disturbance(episode_share=1.0))
        assert episode.sim_state is not None
        known = {key: vars(env)[key] for key in _KEPT if key in vars(env)}
        bodies = _simulation(env)[0].body_pos.copy()
        for state in episode.sim_state[::_EVERY]:
            for what, change in hidden.items():
                env.restore(state)
                action = expert.action()
                change(env)
                found[what] += not np.allclose(expert.action(), action, atol=1e-5)
                _simulation(env)[0].body_pos[:] = bodies
                vars(env).update(known)
    return found


def _simulation(env: Any) -> tuple[Any, Any]:
    """Its model and its data."""
    holder = next(h for h in (getattr(env, "world", None), env, getattr(env, "inner", None)) if hasattr(h, "data"))
    return holder.model, holder.data


def _later(env: Any) -> None:
    """As many steps have been made as an episode may have."""
    _simulation(env)[1].time += 3.7
    if "_steps" in vars(env):
        env._steps += 37


def _seen_before(env: Any) -> None:
    """Meta-World's observation tells of the moment before, too."""
    env._observed[18:36] = np.random.default_rng(2).uniform(-0.5, 0.5, 18)


def _began_elsewhere(env: TabletopEnv) -> None:
    """All things lay elsewhere at first; a drawer's place is its own for good."""
    rng = np.random.default_rng(1)
    spots = {
        thing: spot if thing.kind == "drawer" else spot + rng.uniform(-0.08, 0.08, 2)
        for thing, spot in env.layout.spots_m.items()
    }
    env.layout = replace(env.layout, spots_m=spots)


def _renumbered(env: TabletopEnv) -> None:
    """The same picture and the same goal, with the things of each kind counted the other way round."""
    layout, goal, world = env.layout, env.goal, env.world
    new = {t: Thing(t.kind, len(layout.things(t.kind)) - 1 - t.index) for t in layout.spots_m if t.kind != "drawer"}
    _move_bodies(world, new)
    moved = {new.get(t, t): spot for t, spot in layout.spots_m.items()}
    env.layout = Layout(
        spots_m=dict(sorted(moved.items(), key=lambda item: (item[0].kind, item[0].index))),
        colours={new.get(t, t): colour for t, colour in layout.colours.items()},
        shapes={new.get(t, t): shape for t, shape in layout.shapes.items()},
    )
    named = Goal(tuple(new.get(t, t) for t in goal.things), goal.word, goal.said)
    same = [g for g in env.task.goals(env.layout) if set(g.things) == set(named.things) and g.word == named.word]
    env.goal = named if named in same else same[0]


def _move_bodies(world: World, new: dict[Thing, Thing]) -> None:
    """Put each thing where the one is whose number it takes."""
    model, data = world.model, world.data
    qpos, qvel, body_pos = data.qpos.copy(), data.qvel.copy(), model.body_pos.copy()
    for old, thing in new.items():
        source, target = (model.body(t.name) for t in (old, thing))
        if source.jntnum[0]:
            size = 7 if thing.kind == "block" else 1
            start, end = model.jnt_qposadr[source.jntadr[0]], model.jnt_qposadr[target.jntadr[0]]
            data.qpos[end : end + size] = qpos[start : start + size]
            source_dof, target_dof = (int(model.jnt_dofadr[body.jntadr[0]]) for body in (source, target))
            speeds = 6 if thing.kind == "block" else 1
            data.qvel[target_dof : target_dof + speeds] = qvel[source_dof : source_dof + speeds]
        if thing.kind != "block":
            base = "_base" if thing.kind == "button" else ""
            model.body_pos[model.body(f"{thing.name}{base}").id] = body_pos[model.body(f"{old.name}{base}").id]
    mujoco.mj_forward(model, data)


TABLE_HIDDEN: Hidden = {
    "clock": _later,
    "start": _began_elsewhere,
    "numbers": _renumbered,
}


@pytest.mark.parametrize("name", TABLETOP)
def test_what_a_tabletop_expert_does_is_to_be_seen(name: str) -> None:
    env = TABLETOP[name].make({"image_size": 8})
    differences = _differences(name, env, make_expert(name, env), TABLE_HIDDEN, range(31, 33))
    env.close()
    assert not differences.total(), differences


def _by_number(situation: Situation) -> Move:
    block, plate = (_missing(situation) or [situation.goal.things])[0]
    return to_plate(situation, block, plate)


def _since_the_start(situation: Situation) -> Move:
    (block,) = situation.goal.things
    way = situation.world.position_m(block)[:2] - situation.layout.spots_m[block]
    return rise(situation.world, 0.0) if np.linalg.norm(way) > 0.06 else PUSH.plan(situation)


@pytest.mark.parametrize(
    ("name", "plan", "hidden"),
    [("tabletop/sort", _by_number, "numbers"), ("tabletop/push", _since_the_start, "start")],
)
def test_an_expert_that_knows_more_is_found_out(name: str, plan: Callable[[Situation], Move], hidden: str) -> None:
    env = TABLETOP[name].make({"image_size": 8})
    assert isinstance(env, TabletopEnv)
    env.task = replace(env.task, plan=plan)
    assert _differences(name, env, make_expert(name, env), TABLE_HIDDEN, range(31, 33))[hidden]
    env.close()


METAWORLD_HIDDEN: Hidden = {"clock": _later, "past": _seen_before}


@pytest.mark.parametrize("name", ["metaworld/pick-place", "metaworld/door-open"])
def test_what_an_expert_of_metaworld_does_is_to_be_seen(name: str) -> None:
    _require_nothing_hidden(name, {"cameras": []}, METAWORLD_HIDDEN)


@pytest.mark.long
@pytest.mark.parametrize("name", METAWORLD)
def test_no_expert_of_metaworld_knows_more(name: str) -> None:
    _require_nothing_hidden(name, {"cameras": []}, METAWORLD_HIDDEN)


@pytest.mark.long
@pytest.mark.parametrize("name", ROBOSUITE)
def test_no_expert_of_robosuite_has_a_clock(name: str) -> None:
    env_spec(name).require_installed(name)
    _require_nothing_hidden(name, {"image_size": 8}, {"clock": _later})


def _require_nothing_hidden(name: str, settings: dict[str, Any], hidden: Hidden) -> None:
    env = env_spec(name).build(settings)
    assert not _differences(name, env, make_expert(name, env), hidden, range(2, 3)).total()
    env.close()
