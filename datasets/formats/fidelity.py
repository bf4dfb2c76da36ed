"""What an export leaves behind: counted over the episodes, and said only where something was there."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.formats.dimensions import keys_of
from vla.datasets.store.clocks import latest_frame

_SENTENCES = {
    "instruction": "Instructions, in {n} episodes: the format has no language.",
    "alternatives": "Alternative instructions, in {n} episodes.",
    "task": "Task names, in {n} episodes.",
    "executed": "Commands that differ from the labels (action_executed), in {n} episodes: the labels are kept.",
    "times": "Capture times that are not multiples of the step, in {n} episodes: steps are numbered instead.",
    "commands": "The times at which commands left, in {n} episodes.",
    "reward": "Rewards, in {n} episodes.",
    "done": "Steps that end the task and are not the last, in {n} episodes.",
    "valid": "Which steps may be learned from, in {n} episodes: all are exported.",
    "signals": "Signals beside states and actions, in {n} episodes.",
    "questions": "Questions and their answers, in {n} episodes.",
    "success": "Whether the episode succeeded, in {n} episodes.",
    "split": "The split, in {n} episodes.",
    "seed": "Seeds, in {n} episodes.",
    "simulator": "The simulator's state or model, in {n} episodes: they cannot be replayed from the export.",
    "clocks": "The clocks of cameras with their own, in {n} episodes: the last frame not after each step is kept.",
    "provenance": "Provenance, in {n} episodes.",
}


@dataclass(kw_only=True)
class Losses:
    """Counts the episodes that have each thing that a format cannot hold."""

    contract: Contract
    held: frozenset[str]
    """What the format holds, by the keys of the sentences; ``layout``: names, units, limits; ``robot``: name, rate."""
    _counts: dict[str, int] = field(default_factory=dict)

    def look_at(self, episode: Episode, rate: Fraction) -> None:
        """Count one episode recorded at ``rate`` steps a second."""
        steps = np.arange(len(episode), dtype=np.int64)
        expected = steps * (1_000_000_000 * rate.denominator) // rate.numerator
        last = steps == len(episode) - 1
        found = {
            "instruction": bool(episode.instruction),
            "alternatives": bool(episode.instruction_alternatives),
            "task": bool(episode.task),
            "executed": not np.array_equal(episode.action, episode.action_executed),
            "times": bool((np.abs(episode.time_ns - episode.time_ns[0] - expected) > 1).any()),
            "commands": not np.array_equal(episode.command_time_ns, episode.time_ns),
            "reward": bool(episode.reward.any()),
            "done": not np.array_equal(episode.done, last),
            "valid": not episode.valid.all(),
            "signals": bool(episode.signals),
            "questions": bool(episode.questions),
            "success": episode.success is not None,
            "split": episode.split != "train",
            "seed": episode.seed != 0,
            "simulator": episode.sim_state is not None or bool(episode.model),
            "clocks": bool(episode.image_time_ns),
            "provenance": bool(episode.provenance),
        }
        for key, there in found.items():
            if key not in self.held:
                self.count(key, there)

    def count(self, key: str, there: bool = True) -> None:
        """Count an episode in which the format could not hold what it holds in others."""
        self._counts[key] = self._counts.get(key, 0) + there

    def sentences(self) -> tuple[str, ...]:
        """One for each thing that was there, and for what only a contract says."""
        contract = self.contract
        lost = [text.format(n=self._counts[key]) for key, text in _SENTENCES.items() if self._counts.get(key)]
        lost += [f"Depth camera {camera.name}." for camera in contract.cameras if camera.kind == "depth"]
        if "layout" in self.held:
            return tuple(lost)
        for what, dimensions in (("state", contract.state), ("action", contract.action)):
            keys = keys_of(dimensions)
            named = keys is None or (what == "action" and len(keys) != 1)
            if dimensions:
                lost.append(f"{'Names, units' if named else 'Units'} and limits of the {what}.")
        if contract.gripper is not None:
            lost.append("Which dimension of the action is the gripper.")
        if "robot" not in self.held:
            lost.append("The robot's name and its rate.")
        return tuple(lost)


def frames_at_steps(episode: Episode, camera: str) -> np.ndarray:
    """One frame for each step (t, y, x, c): of a camera with its own clock, the last that is not after the step."""
    frames = episode.images[camera]
    if camera not in episode.image_time_ns:
        return frames
    places = latest_frame(episode.image_time_ns[camera], episode.time_ns)
    return np.asarray(frames[np.maximum(places, 0)])
