"""The tabletop as a Gymnasium environment, for any family of tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import ConfigError
from vla.core.fit import limits
from vla.core.lookup import lookup
from vla.core.provenance import versions
from vla.core.types import Question
from vla.envs.rendering import CameraRenderer, image_point
from vla.envs.spec import LANGUAGES, Language, Witnessed
from vla.envs.splits import ALL, HELD_OUT_PHRASINGS, SPLITS
from vla.envs.tabletop.questions import deed_question, scene_questions
from vla.envs.tabletop.scene.appearance import Appearance
from vla.envs.tabletop.scene.arm import GRIPPER_OPEN_M, HOME_RAD, JOINT_HIGH_RAD, JOINT_LOW_RAD, JOINTS
from vla.envs.tabletop.scene.config import TabletopConfig
from vla.envs.tabletop.scene.layout import Layout, add_distractors, draw_layout, set_up
from vla.envs.tabletop.scene.mjcf import AREA_M, CAMERAS, TABLES, TIMESTEP_S, Scene
from vla.envs.tabletop.scene.world import Thing, World
from vla.envs.tabletop.tasks.task import Goal, Situation, Task, draw_goal, is_held_out, title, words
from vla.envs.tabletop.witness import witnessed

_START_M = ((0.36, 0.48), (-0.12, 0.12), (0.16, 0.28))
_MOST_DRAWS = 2000
_GROUNDED = {"block": "xyz", "plate": "xy"}
"""The first and the last thing that a goal is about (one and the same where it is about one), and the axes told.

Every family has the names of ``tabletop/place``: with one contract, their datasets mix and one policy serves them all.
"""
_ALMOST = 0.99
"""Progress of whatever is not success."""


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """A compiled scene and what belongs to it."""

    world: World
    appearance: Appearance
    renderers: dict[int, CameraRenderer]


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A 7-joint arm with a gripper at a table, and one instruction.

    Actions are the targets of the seven joints (rad) and of the gripper's opening (m), reached linearly within one
    control step. ``reset(options={"language": …})`` chooses what the policy is told: ``right`` (default), ``blank``
    (nothing), or ``wrong`` (the instruction of another goal of the same scene, which then *is* the goal;
    ``info["success_unsaid"]`` tells of the original one); ``options={"split": …}`` one of `vla.envs.splits`. An
    episode terminates at success, and only then.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (the name and type are Gymnasium's)

    def __init__(self, task: Task, config: TabletopConfig, render_mode: str | None = "rgb_array") -> None:
        self.task, self.config, self.render_mode = task, config, render_mode
        for kind, fewest in task.needs.items():
            if getattr(config, kind) < fewest:
                raise ConfigError(f"{task.name}: {kind}={getattr(config, kind)} must be at least {fewest}")
        self._stages: dict[Scene, _Stage] = {}
        self._stage = self._stage_of(config.scene)
        self.contract = _contract(config)
        self.layout = Layout(spots_m={}, colours={}, shapes={})
        self.goal = self._original_goal = Goal(())
        self.instruction = ""
        self.instruction_alternatives: tuple[str, ...] = ()
        self._substeps = round(1 / config.control_hz / TIMESTEP_S)
        self._steps, self._grasped = 0, False
        self.action_space = spaces.Box(*limits(self.contract.action), dtype=np.float32)
        low, high = limits(self.contract.state)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({c.name: spaces.Box(0, 255, c.shape, np.uint8) for c in self.contract.cameras}),
                "state": spaces.Box(low - 0.1, high + 0.1, dtype=np.float32),
                "instruction": spaces.Text(max_length=128, min_length=0, charset=" ,abcdefghijklmnopqrstuvwxyz"),
            }
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TabletopEnv, (self.task, self.config, self.render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out a new scene; the same seed and options give the same scene, bit for bit."""
        super().reset(seed=seed)
        language, config = self._options(options or {})
        self._stage = self._stage_of(config.scene)
        rng, world = self.np_random, self.world
        world.clear()
        self._steps, self._grasped = 0, False
        self.layout, self.goal = self._draw(config)
        self._original_goal = self.goal
        set_up(rng, world, self.layout)
        if self.task.prepare is not None:
            self.task.prepare(rng, self.situation)
        start_m = np.array([rng.uniform(low, high) for low, high in _START_M])
        world.set_arm(start_m, np.array(HOME_RAD))
        self._speak(language, config.split)
        clear_m = self.task.clear_m(self.layout, self._original_goal) if self.task.clear_m else ()
        things, *looks = rng.spawn(5)  # streams of their own: none of them changes what else is drawn
        add_distractors(things, world, config, self.layout, clear_m)
        self._stage.appearance.draw(looks, config, self.layout)
        world.settle()
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Drive towards the joint targets for one control period; targets outside the limits are clipped."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (JOINTS + 1,) or not np.isfinite(action).all():
            raise ValueError(f"{self.task.name}: action must be {JOINTS + 1} finite numbers, got {action!r}")
        self.world.drive(action, self._substeps)
        self._steps += 1
        info = self._info()
        truncated = self._steps >= self.config.max_steps and not info["success"]
        return self._observation(), float(info["success"]), info["success"], truncated, info

    def render(self) -> np.ndarray:
        """The front camera at 256 pixels."""
        return self._camera(256).render(self.world.data, "front")

    def close(self) -> None:
        """Free the GL contexts."""
        for stage in self._stages.values():
            while stage.renderers:
                stage.renderers.popitem()[1].close()

    @property
    def renderer(self) -> str:
        """Name of the GL driver in use: part of a result's provenance."""
        return self._camera(self.config.image_size).description

    @property
    def world(self) -> World:
        """The simulation of the present episode."""
        return self._stage.world

    @property
    def situation(self) -> Situation:
        """What an expert decides by."""
        return Situation(world=self.world, layout=self.layout, goal=self.goal)

    def sim_state(self) -> np.ndarray:
        """float64 (m,): positions, velocities, controls, time and the solver's warm start."""
        return self.world.sim_state()

    def restore(self, state: np.ndarray) -> dict[str, Any]:
        """Go back to a state of the scene that `reset` has laid out with its seed; the observation there."""
        self.world.restore(state)
        return self._observation()

    def reached(self, goal: Goal) -> bool:
        """Whether that goal of the present scene is reached."""
        return self.task.reached(replace(self.situation, goal=goal))

    def signals(self) -> dict[str, np.ndarray]:
        """Where the first and the last named thing are: ``grounding`` in m, ``pointing`` in each camera's image.

        ``approach`` is where the expert would have the tool go, in m: what to do with these things, said as a place.
        """
        situation = self.situation
        things = self.task.focus(situation) if self.task.focus else self.goal.things
        return {
            **self._where(things[0], things[-1]),
            "approach": np.asarray(self.task.plan(situation).tool_m, np.float32),
        }

    def _where(self, first: Thing, last: Thing) -> dict[str, np.ndarray]:
        """Where they are, on the table and in each camera's image."""
        world = self.world
        positions = [world.position_m(thing) for thing in (first, last)]
        metres = [p[: len(axes)] for p, axes in zip(positions, _GROUNDED.values(), strict=True)]
        points = [image_point(world.model, world.data, camera, p) for camera in CAMERAS for p in positions]
        return {
            "grounding": np.asarray(np.concatenate(metres), np.float32),
            "pointing": np.asarray(np.concatenate(points), np.float32),
        }

    def questions(self) -> Sequence[Question]:
        """What can be asked of the scene as it is now; see `vla.envs.tabletop.questions`."""
        told = cache(self._told)  # a hundred questions are about a few pairs of things
        return tuple(_about(*asked, told) for asked in scene_questions(self.situation))

    def deed(self) -> Question:
        """The question what was done."""
        return _about(deed_question(self.task, self.situation), self.goal.things, self._told)

    def _told(self, first: Thing, last: Thing) -> dict[str, tuple[float, ...]]:
        """`_where` in a question."""
        return {
            name: tuple(values.astype(float).round(4).tolist()) for name, values in self._where(first, last).items()
        }

    def witness(self) -> Witnessed:
        """Where everything is, and what the arm touches."""
        return witnessed(self.situation)

    def _options(self, options: dict[str, Any]) -> tuple[Language, TabletopConfig]:
        """What is said, and the settings under the split that is asked for."""
        language = options.get("language", "right")
        if language not in LANGUAGES:
            raise ConfigError(f"{self.task.name}: language {language!r} must be one of {', '.join(LANGUAGES)}")
        split = options.get("split") or self.config.split
        lookup("split", split, {ALL: "", **SPLITS})
        config = replace(self.config, split=split)
        if split == "distractors":
            config = replace(config, distractors=max(3, config.distractors))
        elif split == "viewpoint":
            config = replace(config, viewpoint_deg=(10.0, 20.0))
        elif split == "lighting":
            config = replace(config, lighting=(0.5, 1.0))
        elif split == "background":
            config = replace(config, tables=TABLES[1:], shades=1.0)
        return language, config

    def _stage_of(self, scene: Scene) -> _Stage:
        if scene not in self._stages:
            world = World(scene)
            self._stages[scene] = _Stage(world=world, appearance=Appearance(world), renderers={})
        return self._stages[scene]

    def _camera(self, pixels: int) -> CameraRenderer:
        renderers = self._stage.renderers
        if pixels not in renderers:
            renderers[pixels] = CameraRenderer(self.world.model, pixels, pixels)
        return renderers[pixels]

    def _observation(self) -> dict[str, Any]:
        camera = self._camera(self.config.image_size)
        images = {name: camera.render(self.world.data, name) for name in CAMERAS}
        return {"images": images, "state": self.world.state(), "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        task, situation, world = self.task, self.situation, self.world
        success = task.reached(situation)
        blocks = [thing for thing in self.goal.things if thing.kind == "block"]
        self._grasped |= any(_lifted(world, block) for block in blocks)
        info = {
            "goal": title(self.layout, self.goal),
            "success": success,
            "success_unsaid": self._original_goal != self.goal and self.reached(self._original_goal),
            "progress": 1.0 if success else float(np.clip(task.progress(situation), 0.0, _ALMOST)),
            "metrics": {"grasped": float(self._grasped), "distance_m": task.distance_m(situation)},
            "signals": self.signals(),
            "time_ns": round(world.data.time * 1e9),
        }
        if task.subtask is not None:
            info["subtask"], info["sub_instruction"] = task.subtask(situation)
        return info

    def _draw(self, config: TabletopConfig) -> tuple[Layout, Goal]:
        """A layout and a goal of it that belong to the split."""
        task, rng, split = self.task, self.np_random, config.split
        for _ in range(_MOST_DRAWS):
            layout = draw_layout(rng, config)
            if task.arrange is not None:
                layout = task.arrange(rng, layout)
            goal = draw_goal(rng, task, layout)
            if goal is not None and _belongs(task, layout, goal, split):
                return layout, goal
        raise ConfigError(
            f"{task.name}: {_MOST_DRAWS} draws gave no scene of split {split!r} with colours "
            f"{', '.join(config.colours)}; use more colours, or fewer things"
        )

    def _speak(self, language: Language, split: str) -> None:
        """Choose the words, and with ``wrong`` another goal of the same scene."""
        task, rng = self.task, self.np_random
        goals, held_out = task.goals(self.layout), len(task.templates) - HELD_OUT_PHRASINGS
        order = rng.permutation(len(task.templates)).tolist()
        shift = int(rng.integers(1, max(2, len(goals))))  # drawn always: scenes must not depend on it
        if split != ALL:
            order = [i for i in order if (i >= held_out) == (split == "unseen-phrasing")]
        if language == "wrong":
            start = (goals.index(self.goal) + shift) % len(goals)
            others = [*goals[start:], *goals[:start]]
            others = [goal for goal in others if goal != self.goal]
            # One of the split where there is one: what is tested is the words, not a combination that was held out.
            others.sort(key=lambda goal: not _belongs(task, self.layout, goal, split))
            if not others:
                raise ConfigError(
                    f"{task.name}: language 'wrong' needs another goal to name; use {task.other_goal_needs}"
                )
            self.goal = others[0]
        named = words(task, self.layout, self.goal)
        phrases = tuple(task.templates[i].format(**named) for i in order)
        self.instruction = "" if language == "blank" else phrases[0]
        self.instruction_alternatives = () if language == "blank" else phrases[1:]


def _about(
    question: Question, things: tuple[Thing, ...], told: Callable[[Thing, Thing], dict[str, tuple[float, ...]]]
) -> Question:
    """With where its things are: of a few things, since there are places for a first and a last one."""
    return replace(question, signals=told(things[0], things[-1])) if 1 <= len(things) <= len(_GROUNDED) else question


def _belongs(task: Task, layout: Layout, goal: Goal, split: str) -> bool:
    return split == ALL or is_held_out(task, layout, goal) == (split == "unseen-combination")


def _lifted(world: World, block: Thing) -> bool:
    return all(world.touching(block)) and bool(world.position_m(block)[2] > 2 * world.half_m(block)[2])


def _contract(config: TabletopConfig) -> Contract:
    joints = tuple(
        Dimension(name=f"joint{i + 1}", unit="rad", low=low, high=high)
        for i, (low, high) in enumerate(zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, strict=True))
    )
    gripper = Dimension(name="gripper", unit="m", low=0.0, high=GRIPPER_OPEN_M)
    (x_low, x_high), (y_low, y_high) = AREA_M
    ranges = {"x": (x_low - 0.1, x_high + 0.1), "y": (y_low - 0.1, y_high + 0.1), "z": (0.0, 0.3)}
    metric = [(f"{role}_{axis}", *ranges[axis]) for role, axes in _GROUNDED.items() for axis in axes]
    approach = [(f"tool_{axis}", *ranges[axis]) for axis in "xyz"]
    points = [f"{camera}.{role}.{axis}" for camera in CAMERAS for role in _GROUNDED for axis in ("row", "column")]
    return Contract(
        robot="tabletop-panda",
        cameras=tuple(Camera(name=name, height=config.image_size, width=config.image_size) for name in CAMERAS),
        state=(*joints, gripper),
        action=(*joints, gripper),
        signals={
            "grounding": tuple(Dimension(name=n, unit="m", low=low, high=high) for n, low, high in metric),
            "approach": tuple(Dimension(name=n, unit="m", low=low, high=high) for n, low, high in approach),
            "pointing": tuple(Dimension(name=n, unit="image", low=-1.0, high=1.0) for n in points),
        },
        gripper="gripper",
        control_hz=config.control_hz,
        versions=versions(),
    )
