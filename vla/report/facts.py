"""Everything a report says, as one plain JSON value: what ``report.json`` holds and the page is drawn from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla.core.config import to_dict
from vla.core.contract import read_contract
from vla.core.provenance import provenance
from vla.envs.registry import env_spec
from vla.evaluation.result import summarise
from vla.evaluation.settings import EvaluationConfig
from vla.evaluation.trials import EpisodeResult
from vla.train.metrics import read_metrics
from vla.train.recipe import TrainConfig

_NOTES = {
    "blank instruction": "the same scenes, nothing said: what looking alone achieves",
    "random": "a random walk of the joints",
    "expert": "the scripted demonstrator, which reads the simulator's state",
}


def demo_facts(
    results: Mapping[str, Sequence[EpisodeResult]],
    phases: Sequence[Mapping[str, Any]],
    config: TrainConfig,
    evaluation: EvaluationConfig,
    *,
    run: Path,
) -> dict[str, Any]:
    """The facts of a demo: ``results`` by condition, the first of them the policy's own."""
    summaries = {name: summarise(episodes) for name, episodes in results.items()}
    first = next(iter(summaries.values()))
    spec = env_spec(evaluation.env)
    env = spec.make(evaluation.settings)
    renderer = env.renderer
    env.close()
    contract = read_contract(run / "checkpoint" / "contract.json")
    return {
        "title": evaluation.env,
        "success": first["success"],
        "rows": [row for name, summary in summaries.items() for row in _rows(name, summary)],
        "instructions": first["instructions"],
        "phases": [dict(phase) for phase in phases],
        "training": _training(run),
        "episodes": {name: summary["episodes"] for name, summary in summaries.items()},
        "provenance": provenance(seed=evaluation.seed, renderer=renderer, contract=contract.digest()),
        "config": {"train": to_dict(config), "evaluation": to_dict(evaluation)},
    }


def _rows(name: str, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row of the success table; a wrong instruction has two."""
    row = {key: summary[key] for key in ("success", "mean_steps", "inference_ms", "crashes")}
    grasped = sum(bool(episode["metrics"].get("grasped")) for episode in summary["episodes"] if not episode["crash"])
    row |= {"name": name, "note": _NOTES.get(name), "grasped": grasped}
    if name != "wrong instruction":
        return [row]
    said = row | {"name": f"{name}: what was said", "note": "the same scenes, another of their goals is said"}
    unsaid = row | {"name": f"{name}: what was not said", "success": summary["success_unsaid"], "grasped": None}
    return [said, unsaid | {"note": "the goal of the right instruction, reached although another was said"}]


def _training(run: Path) -> dict[str, Any]:
    lines = read_metrics(run)
    curves = [line for line in lines if line["kind"] == "train"]
    origin = json.loads((run / "checkpoint" / "provenance.json").read_text())
    position = origin["training"]
    return {
        "steps": position["step"],
        "samples": position["consumed"],
        "samples_per_s": position["consumed"] / max(1e-9, position["seconds"]),
        "parameters": origin["parameters"],
        "minutes": position["seconds"] / 60,
        "curves": curves,
        "validation": [line for line in lines if line["kind"] == "validation"],
    }
