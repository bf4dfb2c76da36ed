"""Videos of an evaluation's folder: the first of each kind, by seed, replayed to the same end."""

import io
from pathlib import Path

import av
import pytest

from vla.evaluation.evaluate import evaluate
from vla.evaluation.settings import RunConfig
from vla.report.evaluation.clips import record_clips


def test_the_first_successes_and_failures_of_each_instruction(tmp_path: Path) -> None:
    run = RunConfig(workers=1, batch=4)
    settings = {"image_size": 32, "max_steps": 28}  # enough for some
    result = evaluate(
        "expert", episodes=8, settings=settings, languages=("right", "paraphrase", "wrong"), out=tmp_path, run=run
    )
    clips = record_clips(result, tmp_path, 2)
    told = [clip.condition.language for clip in clips]
    assert set(told) == {"right", "wrong"}
    assert told.count("right") <= 4
    assert told.count("wrong") <= 2
    row = next(row for row in result.rows if row.condition.language == "right")
    for success in (True, False):
        seeds = [e.seed for e in row.episodes if e.success is success][:2]
        mine = [c for c in clips if c.condition.language == "right" and c.episode.success is success]
        assert [clip.episode.seed for clip in mine] == seeds
    with av.open(io.BytesIO(clips[0].mp4)) as container:
        assert sum(1 for _ in container.decode(video=0)) == clips[0].episode.steps + 1
    assert record_clips(result, tmp_path, 0) == []


@pytest.mark.parametrize("env", [("tabletop/place", "tabletop/lift")])
def test_several_tasks_have_none(env: tuple[str, ...], tmp_path: Path) -> None:
    settings = {"image_size": 32, "max_steps": 4}
    result = evaluate("random", env=env, episodes=1, settings=settings, out=tmp_path, run=RunConfig(workers=1))
    assert record_clips(result, tmp_path, 2) == []
