"""Facts as the evaluator and the trainer give them, with made-up numbers."""

import math
from dataclasses import asdict
from typing import Any

import pytest

from vla.evaluation.statistics import success_rate


def rate(successes: int, episodes: int) -> dict[str, Any]:
    return asdict(success_rate(successes, episodes))


def row(name: str, successes: int, episodes: int = 100, **values: Any) -> dict[str, Any]:
    base = {"grasped": successes, "mean_steps": 31.26, "inference_ms": 12.34, "crashes": 0, "note": None}
    return {"name": name, "success": rate(successes, episodes), **base, **values}


def episode(seed: int, **values: Any) -> dict[str, Any]:
    return {
        "seed": seed,
        "instruction": "put the red block on the blue plate",
        "success": True,
        "success_unsaid": False,
        "metrics": {"grasped": 1.0, "distance_m": 0.01, "grounding_error": 0.004},
        "steps": 30,
        "inference_ms": 12.0,
        "crash": None,
        **values,
    }


def ended_in_every_way() -> list[dict[str, Any]]:
    return [
        episode(1),
        episode(2, success=False, metrics={"grasped": 1.0, "distance_m": 0.02}, steps=80),
        episode(3, success=False, metrics={"grasped": 1.0, "distance_m": 0.2}, steps=80),
        episode(4, success=False, metrics={"grasped": 0.0, "distance_m": 0.2}, steps=80),
        episode(5, success=False, crash="step 3: boom", steps=3),
    ]


def training() -> dict[str, Any]:
    steps = range(20, 2001, 20)
    curves = [
        {
            "step": step,
            "seconds": step * 0.1,
            "action_loss": 0.1 + math.exp(-step / 500),
            "grounding_loss": 0.05 + math.exp(-step / 300),
            "grounding_error_m": 0.004 + 0.1 * math.exp(-step / 300),
            "samples_per_s": 1400.0,
        }
        for step in steps
    ]
    validation = [
        {"step": step, "seconds": step * 0.1, "first_frame_error_m": 0.006, "action_loss": 0.2}
        for step in range(500, 2001, 500)
    ]
    numbers = {"steps": 2000, "samples": 256_000, "samples_per_s": 1400.0, "parameters": 1_934_336, "minutes": 3.3}
    return {**numbers, "curves": curves, "validation": validation}


@pytest.fixture
def minimal_facts() -> dict[str, Any]:
    return {"title": "tabletop/place", "success": rate(87, 100)}


@pytest.fixture
def facts(minimal_facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **minimal_facts,
        "rows": [
            row("policy", 87),
            row("expert", 100, inference_ms=None, note="scripted"),
            row("random", 0, crashes=2),
            row("blank instruction", 22),
            row("wrong instruction: what was said", 84),
            row("wrong instruction: what was not said", 1, grasped=None, mean_steps=None, inference_ms=None),
        ],
        "instructions": [
            {"instruction": f"{block} block → {plate} plate", "success": rate(hits, 10)}
            for block, plate, hits in (("red", "blue", 9), ("red", "green", 3), ("blue", "green", 10))
        ],
        "phases": [
            {"name": "collect", "seconds": 131.2, "note": "2,000 episodes"},
            {"name": "train", "seconds": 1080.0, "note": None},
        ],
        "training": training(),
        "episodes": {
            "policy": ended_in_every_way(),
            "random": [episode(1, success=False, metrics={"grasped": 0.0, "distance_m": 0.01})],
        },
        "provenance": {
            "command": "vla run place --seed 7",
            "git": "0123abc+dirty",
            "seed": 7,
            "versions": {"mujoco": "3.3.0"},
        },
        "config": {"env": {"blocks": 2, "colours": ["red", "green"]}, "train": {"rate": 3e-4, "resume": None}},
    }
