"""How fast environments step and render in software on one core, against their suites' own defaults."""

import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from vla.bench.envs.evaluation import bench_evaluation
from vla.bench.envs.memory import bench_memory
from vla.bench.measure import Note, Row, Work, compare, cpu_rates, in_fresh_process
from vla.bench.settings import EnvConfig
from vla.envs.gl import settle_gl
from vla.envs.registry import env_spec, make_expert
from vla.envs.tabletop.table import TABLETOP

_STEPS = 10
"""In one turn of a measurement."""
_TABLETOP_BAR = 200.0
_LIFT, _DRAWER = "robosuite/lift", "metaworld/drawer-open"


def bench_env(config: EnvConfig, note: Note) -> list[Row]:
    """Steps in a CPU second of every family, of the suites against themselves, whole evaluations, and memory."""
    return [
        *_tabletop(config, note),
        *(_suites(config, note) if config.suites else ()),
        *bench_evaluation(config, note),
        *bench_memory(config, note),
    ]


def _tabletop(config: EnvConfig, note: Note) -> Iterator[Row]:
    for name in config.tabletop or TABLETOP:
        note(f"stepping {name}")
        rates = in_fresh_process(measure_rates, {name: (name, {"image_size": config.size})}, config)
        title = f"{name}, 2 × {config.size} px, steps on one core"
        yield Row(name=title, value=rates[name], unit="steps/s", bar=_TABLETOP_BAR)


def _suites(config: EnvConfig, note: Note) -> Iterator[Row]:
    if find_spec("robosuite"):
        note("stepping robosuite's Lift, ours and its own")
        ours = {
            "visual": (_LIFT, {"image_size": config.size}),
            "collision": (_LIFT, {"image_size": config.size, "collision_geometry": True}),
        }
        rates, default = in_fresh_process(measure_rates, ours, config), _default("robosuite", config)
        peer = f"against robosuite's default, 2 × {config.size} px"
        for kind, bar in (("visual", 2.0), ("collision", 5.0)):
            title = f"{_LIFT}, {kind} geometry, {peer}"
            yield compare(title, rates[kind], "steps/s", against=default, bar=bar)
    if find_spec("metaworld"):
        note("stepping Meta-World's drawer-open, ours and its own")
        rates = in_fresh_process(measure_rates, {"ours": (_DRAWER, {"image_size": config.size})}, config)
        default = _default("metaworld", config)
        title = f"{_DRAWER} against Meta-World's default, 1 × {config.size} px"
        yield compare(title, rates["ours"], "steps/s", against=default, bar=5.0)


def _default(peer: str, config: EnvConfig) -> float:
    """What a suite does by itself, in a process that has no OpenGL but its own.

    Beside ours its context was not current on one machine: it drew nothing, and that at three times its speed.
    """
    return in_fresh_process(measure_rates, {}, config, peer)["peer"]


def measure_rates(ours: dict[str, tuple[str, dict[str, Any]]], config: EnvConfig, peer: str = "") -> dict[str, float]:
    """Steps with all cameras in a CPU second, by name; ``peer`` is a suite that is measured too."""
    os.environ.setdefault("LP_NUM_THREADS", "1")  # software GL reads it when it starts
    settle_gl()  # before a suite imports MuJoCo by itself
    warnings.simplefilter("ignore")  # the suites' own
    works = {title: _stepping(name, settings, config.seed) for title, (name, settings) in ours.items()}
    if peer:
        works["peer"] = {"robosuite": _robosuite_default, "metaworld": _metaworld_default}[peer](config.size)
    return cpu_rates(works, config.budget)


def _stepping(name: str, settings: dict[str, Any], seed: int) -> Work:
    """Steps through an episode of the expert over and over; its decisions were taken before."""
    env = env_spec(name).build(settings)
    env.reset(seed=seed)
    expert, actions, ended = make_expert(name, env), [], False
    while not ended:
        actions.append(expert.action())
        _, _, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
    step = len(actions)

    def work() -> int:
        nonlocal step
        if step + _STEPS > len(actions):
            env.reset(seed=seed)
            step = 0
        steps = actions[step : step + _STEPS]
        for action in steps:
            env.step(action)
        step += len(steps)
        return len(steps)

    return work


def _robosuite_default(size: int) -> Work:
    """Robosuite's Lift as its own `make` builds it, with the two cameras that ours has."""
    from vla.envs.robosuite.loading import import_robosuite

    env = import_robosuite().make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=["agentview", "robot0_eye_in_hand"],
        camera_heights=size,
        camera_widths=size,
        ignore_done=True,
        seed=0,
    )
    env.reset()
    action = np.zeros(env.action_dim)

    def work() -> int:
        env.step(action)
        return 1

    return work


def _metaworld_default(size: int) -> Work:
    """Meta-World's drawer-open through Gymnasium, rendered by its own renderer."""
    import gymnasium
    import metaworld  # noqa: F401  (registers its environments)

    env: Any = gymnasium.make(
        "Meta-World/MT1",
        env_name="drawer-open-v3",
        seed=0,
        render_mode="rgb_array",
        camera_name="corner2",
        width=size,
        height=size,
    )
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    left = 400

    def work() -> int:
        nonlocal left
        if not left:
            env.reset(seed=0)
            left = 400
        left -= 1
        env.step(action)
        env.render()
        return 1

    return work
