"""What makes a recording itself: digests of all that was recorded, by which it is known again."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np

from vla.core.types import Episode

_RECORDED = ("state", "action", "action_executed", "reward", "done", "valid", "time_ns", "command_time_ns")
"""Arrays that every episode has."""


def content_hash(episode: Episode, pictures: Mapping[str, str] | None = None) -> str:
    """32 hexadecimal digits of all that was recorded: equal for a recording that is imported twice, and no other.

    That is every array, the pictures too, and no label: those can be edited. ``pictures`` gives the digests of the
    pictures (`PictureDigest`) where the episode does not hold them.
    """
    digest = hashlib.blake2b(digest_size=16)
    if pictures is None:
        pictures = {camera: PictureDigest(frames).hexdigest() for camera, frames in episode.images.items()}
    parts = {name: getattr(episode, name) for name in _RECORDED}
    parts |= {f"signals/{name}": signal for name, signal in episode.signals.items()}
    parts |= {f"image_time_ns/{camera}": times for camera, times in episode.image_time_ns.items()}
    if episode.sim_state is not None:
        parts["sim_state"] = episode.sim_state
    for name, part in sorted(parts.items()):
        digest.update(f"{name}{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    digest.update(json.dumps([episode.model, dict(pictures)], sort_keys=True).encode())
    return digest.hexdigest()


class PictureDigest:
    """The digest of a camera's pixels, frame by frame."""

    def __init__(self, frames: Iterable[np.ndarray] = ()) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        for frame in frames:
            self.add(frame)

    def add(self, frame: np.ndarray) -> None:
        """One more frame (y, x, c)."""
        self._digest.update(f"{frame.dtype}{frame.shape}".encode())
        self._digest.update(np.ascontiguousarray(frame).data)

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._digest.hexdigest()


def motion_hash(episode: Episode) -> str:
    """32 hexadecimal digits of actions, states and times alone; in older datasets it is the content hash."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (episode.action, episode.state, episode.time_ns):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
