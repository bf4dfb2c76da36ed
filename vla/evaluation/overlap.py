"""Whether an evaluation asks for scenes that its policy was trained on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vla.evaluation.trials import Condition


def trained_scenes(checkpoint: Path) -> Mapping[str, Sequence[Sequence[int]]]:
    """The seeds of each task that a checkpoint's provenance names, as (first, last); none where it says nothing."""
    try:
        value: Any = json.loads((checkpoint / "provenance.json").read_text())
        return {task: [(int(a), int(b)) for a, b in runs] for task, runs in value["scenes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of another version, or no checkpoint at all
        return {}


def overlaps(checkpoint: Path, conditions: Sequence[Condition], seed: int, episodes: int) -> Iterator[str]:
    """A sentence for each environment some of whose scenes the checkpoint has seen with their solution."""
    trained = trained_scenes(checkpoint)
    for env in dict.fromkeys(condition.env for condition in conditions):
        runs = [(max(first, seed), min(last, seed + episodes - 1)) for first, last in trained.get(env, ())]
        seen = sum(max(0, last - first + 1) for first, last in runs)
        if seen:
            yield (
                f"{env}: {seen} of the {episodes} scenes (seeds {seed} to {seed + episodes - 1}) are in the data that "
                f"{checkpoint} was trained on, so this measures memory too; choose another --seed"
            )
