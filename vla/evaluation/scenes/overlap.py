"""Whether an evaluation asks for scenes that its policy was trained on, or chosen by."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def trained_scenes(checkpoint: Path) -> Mapping[str, Sequence[Sequence[int]]]:
    """The seeds of each task that a checkpoint's provenance names, as (first, last); none where it says nothing."""
    return _scenes(checkpoint, lambda value: value["scenes"].items())


def choosing_scenes(checkpoint: Path) -> Mapping[str, Sequence[Sequence[int]]]:
    """Those that chose the checkpoint among others of its run."""
    return _scenes(checkpoint, lambda value: [(value["selection"]["env"], [value["selection"]["seeds"]])])


def _scenes(checkpoint: Path, find: Callable[[Any], Any]) -> Mapping[str, Sequence[Sequence[int]]]:
    try:
        value: Any = json.loads((checkpoint / "provenance.json").read_text())
        return {task: [(int(a), int(b)) for a, b in runs] for task, runs in find(value)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of another version, or no checkpoint at all
        return {}


def overlaps(checkpoint: Path, envs: Iterable[str], seed: int, episodes: int) -> Iterator[str]:
    """A sentence for each environment some of whose scenes the checkpoint has seen solved, or was chosen by."""
    known = (
        (trained_scenes(checkpoint), f"are in the data that {checkpoint} was trained on, so this measures memory too"),
        (choosing_scenes(checkpoint), f"chose {checkpoint} among others of its run, so its rate there says too much"),
    )
    for env in dict.fromkeys(envs):
        for scenes, what in known:
            runs = [(max(first, seed), min(last, seed + episodes - 1)) for first, last in scenes.get(env, ())]
            seen = sum(max(0, last - first + 1) for first, last in runs)
            if seen:
                asked = f"{env}: {seen} of the {episodes} scenes (seeds {seed} to {seed + episodes - 1})"
                yield f"{asked} {what}; choose another --seed"
