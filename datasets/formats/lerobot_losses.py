"""What a LeRobot dataset cannot hold of the episodes that are exported to it."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from vla.core.contract import Contract
from vla.core.types import Episode

_SENTENCES = {
    "executed": "Commands that differ from the labels (action_executed), in {n} episodes: the labels are kept.",
    "times": "Capture times that are not multiples of the step, in {n} episodes: frames are numbered instead.",
    "commands": "The times at which commands left, in {n} episodes.",
    "valid": "Which steps may be learned from, in {n} episodes: all are exported.",
    "grounding": "Where named things are (grounding), in {n} episodes.",
    "alternatives": "Alternative instructions, in {n} episodes: the first is kept.",
    "task": "Task names that differ from the instruction, in {n} episodes.",
    "seed": "Seeds, in {n} episodes.",
    "simulator": "The simulator's state or model, in {n} episodes: they cannot be replayed from the export.",
    "clocks": "Cameras with a clock of their own, in {n} episodes: the last frame not after each step is kept.",
    "provenance": "Provenance, in {n} episodes.",
}


@dataclass(kw_only=True)
class Losses:
    """Counts the episodes that have each thing."""

    contract: Contract
    rate: Fraction
    judged: bool
    """Every episode says whether it succeeded."""
    lossy: bool
    """Pictures are videos."""
    _counts: dict[str, int] = field(default_factory=dict)
    _successes: int = 0

    def look_at(self, episode: Episode) -> None:
        """Count one episode."""
        elapsed = episode.time_ns - episode.time_ns[0]
        frames = np.arange(len(episode), dtype=np.int64)
        expected = frames * (1_000_000_000 * self.rate.denominator) // self.rate.numerator
        found = {
            "executed": not np.array_equal(episode.action, episode.action_executed),
            "times": bool((np.abs(elapsed - expected) > 1).any()),
            "commands": not np.array_equal(episode.command_time_ns, episode.time_ns),
            "valid": not episode.valid.all(),
            "grounding": episode.grounding.shape[1] > 0,
            "alternatives": bool(episode.instruction_alternatives),
            "task": episode.task not in ("", episode.instruction),
            "seed": episode.seed != 0,
            "simulator": episode.sim_state is not None or bool(episode.model),
            "clocks": bool(episode.image_time_ns),
            "provenance": bool(episode.provenance),
        }
        for key, there in found.items():
            self._counts[key] = self._counts.get(key, 0) + there
        self._successes += episode.success is not None

    def sentences(self) -> tuple[str, ...]:
        """One for each thing that was there."""
        lost = [text.format(n=self._counts[key]) for key, text in _SENTENCES.items() if self._counts.get(key)]
        lost += [f"Depth camera {c.name}." for c in self.contract.cameras if c.kind == "depth"]
        if not self.judged and self._successes:
            lost.append(
                f"Success is known of {self._successes} episodes only, and next.success has no unknown: it is left out."
            )
        if self.lossy and any(c.kind == "rgb" for c in self.contract.cameras):
            lost.append("Exact pixels: videos are lossy (AV1, crf 30); --lossless keeps them.")
        return tuple(lost)
