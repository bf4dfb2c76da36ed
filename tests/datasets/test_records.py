"""Records survive JSON, and the content hash sees what it should."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.records import EpisodeRecord, content_hash, record_of

MakeEpisode = Callable[..., Episode]


@pytest.mark.parametrize("success", [True, False, None])
def test_json(make_episode: MakeEpisode, success: bool | None) -> None:
    record = record_of(make_episode(instruction="größer 🧱", success=success), uid="u", start=3)
    value = json.loads(json.dumps(record.to_json()))
    assert EpisodeRecord.from_json({**value, "later": 1}, where="here") == record
    del value["seed"]
    with pytest.raises(DatasetError, match="here: an episode lacks seed"):
        EpisodeRecord.from_json(value, where="here")


def test_hash(make_episode: MakeEpisode) -> None:
    episode = make_episode()
    assert content_hash(episode) == content_hash(make_episode())
    assert content_hash(episode) == content_hash(replace(episode, instruction="other"))
    for name in ("state", "action"):
        assert content_hash(episode) != content_hash(replace(episode, **{name: getattr(episode, name) + 1}))
    for row in (0, -1):
        images = {camera: np.array(frames) for camera, frames in episode.images.items()}
        images["wrist"][row, 2, 3, 1] ^= 1
        assert content_hash(episode) != content_hash(replace(episode, images=images))
