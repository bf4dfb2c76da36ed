"""Rendering a dataset anew: what was rendered before a failure is published."""

from pathlib import Path
from typing import Any

import pytest

from vla.collection import rerender as module
from vla.collection.rerender import Rerender, rerender
from vla.core.types import Episode
from vla.datasets.care.orphans import unlisted
from vla.datasets.dataset import Dataset
from vla.datasets.storage.storage import open_storage
from vla.envs.open_loop import render_again


def test_what_was_rendered_before_a_failure_is_no_orphan(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Dataset.open(dataset)
    bad = source.episodes[1].seed

    def fails_at_one(env: Any, rows: Episode) -> Episode:
        if rows.seed == bad:
            raise RuntimeError("no more light")
        return render_again(env, rows)

    monkeypatch.setattr(module, "_SEGMENT_EPISODES", 1)
    monkeypatch.setattr(module, "render_again", fails_at_one)
    config = Rerender(env="tabletop/place", settings={"image_size": 16}, workers=1, engine="inline")
    with pytest.raises(RuntimeError, match="no more light"):
        rerender(source, tmp_path, config, lambda steps: None)
    written = Dataset.open(tmp_path)
    assert [r.seed for r in written.episodes] == [r.seed for r in source.episodes if r.seed != bad]
    assert list(unlisted(open_storage(tmp_path))) == []
