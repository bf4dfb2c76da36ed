"""Synthetic findings: what a report names is what is drawn, and a model can be scored by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import TINY
from vla.bench.findings import bench_findings
from vla.bench.settings import FindingsConfig
from vla.collection.radiographs import (
    CAMERA,
    KINDS,
    SIDES,
    SIZES,
    SYNTHETIC,
    Finding,
    draw_episode,
    draw_findings,
    draw_picture,
    report,
    write_radiographs,
)
from vla.core.config import from_dict
from vla.datasets.dataset import Dataset
from vla.paradigms.reports.describing import entities
from vla.training.engines import train
from vla.training.recipe import TrainConfig


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_a_finding_brightens_its_own_side_and_a_large_one_more(kind: str, side: str) -> None:
    def brighter(*findings: Finding) -> tuple[float, float]:
        """By which the left and the right half of the picture are, on average over noise."""
        halves = np.zeros(2)
        for seed in range(8):
            with_, without = (
                draw_picture(np.random.default_rng(seed), f).astype(float)[..., 0] for f in (findings, ())
            )
            halves += [(with_ - without)[:, :32].mean() / 8, (with_ - without)[:, 32:].mean() / 8]
        left, right = halves.tolist()
        return left, right

    small, large = (brighter(Finding(side, kind, size)) for size in SIZES)
    own, other = (0, 1) if side == "left" else (1, 0)
    assert large[own] > small[own] > 0.3
    assert abs(small[other]) < 0.3 * small[own]


def test_reports_name_each_finding_once() -> None:
    for seed in range(40):
        findings = draw_findings(np.random.default_rng(seed))
        assert len({(f.side, f.kind) for f in findings}) == len(findings) <= 3
        assert entities(report(findings)) == {f.words: 1 for f in findings}
    assert report(()) == "nothing"


def test_the_dataset_is_one_of_ours_and_says_what_it_is(tmp_path: Path) -> None:
    write_radiographs(tmp_path / "data", 5, seed=7)
    data = Dataset.open(tmp_path / "data")
    episode, drawn = data.read_episode(2), draw_episode(9)
    assert np.array_equal(episode.images[CAMERA], drawn.images[CAMERA])
    assert [q.answer for q in episode.questions] == [q.answer for q in drawn.questions]
    assert data.provenance(0)["what"] == SYNTHETIC
    assert not np.array_equal(draw_episode(9).images[CAMERA], draw_episode(10).images[CAMERA])


def test_a_model_is_trained_on_it_and_scored_beside_itself_blind(tmp_path: Path) -> None:
    write_radiographs(tmp_path / "data", 6)
    model: dict[str, Any] = {**TINY["model"], "writers": {"answers": {"kind": "text"}}, "auxiliaries": {}}
    data = {"path": str(tmp_path / "data"), "validation": 0.2, "strata": {"questions": 0.5}}
    recipe = from_dict(TrainConfig, TINY | {"model": model, "data": data}, where="a test")
    checkpoint = train(recipe, tmp_path / "run")
    (row,) = bench_findings(FindingsConfig(checkpoint=str(checkpoint), pictures=3), lambda text: None)
    assert SYNTHETIC in row.name
    assert row.against is not None
    assert 0 <= row.value <= 100
