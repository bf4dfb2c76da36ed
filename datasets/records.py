"""What is recorded of each episode beside its arrays."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.core.types import Episode


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One entry of ``episodes.json``."""

    uid: str
    start: int
    """First frame: within the segment on disk, within the dataset once it is open."""
    length: int
    instruction: str
    instruction_alternatives: tuple[str, ...]
    task: str
    success: bool | None
    seed: int
    split: str
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object that `from_json` reads back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any], *, where: str) -> "EpisodeRecord":
        """Read what `to_json` wrote; unknown keys are ignored, ``where`` names the source in errors."""
        names = [f.name for f in dataclasses.fields(EpisodeRecord)]
        missing = [name for name in names if name not in value]
        if missing:
            raise DatasetError(f"{where}: an episode lacks {', '.join(missing)}; the file is damaged")
        known = {name: value[name] for name in names}
        known["instruction_alternatives"] = tuple(known["instruction_alternatives"])
        return EpisodeRecord(**known)


def record_of(episode: Episode, *, uid: str, start: int) -> EpisodeRecord:
    """The record of an episode whose first frame is ``start``."""
    return EpisodeRecord(
        uid=uid,
        start=start,
        length=len(episode),
        instruction=episode.instruction,
        instruction_alternatives=tuple(episode.instruction_alternatives),
        task=episode.task,
        success=None if episode.success is None else bool(episode.success),
        seed=int(episode.seed),
        split=episode.split,
        content_hash=content_hash(episode),
    )


def content_hash(episode: Episode) -> str:
    """32 hexadecimal digits from actions, states and the first and last frame: equal for a recording imported twice."""
    digest = hashlib.blake2b(digest_size=16)
    parts = [episode.action, episode.state]
    for camera in sorted(episode.images):
        parts += [episode.images[camera][0], episode.images[camera][-1]]
    for part in parts:
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
