"""The first steps of every training recipe, number by number: what changes a curve must mean to.

The models have the sizes of their recipes, but for towers that packages ship: small ones of random weights stand for
these. Batches, pictures and data are small. Where a change is meant, write the curves anew with
``python tests/training/update_golden.py``, and say in the commit why they moved.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pretrained import pretrained
from vla.core.config import from_dict, load_recipe, to_dict
from vla.datasets.dataset import Dataset
from vla.sound.bank import speak
from vla.sound.voices import TRAINING
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig

GOLDEN = Path(__file__).with_name("golden")
RECIPES = Path(__file__).resolve().parents[2] / "configs"
DATASETS = {
    "demo": "dataset",
    "fusion-flamingo": "asked",
    "fusion-llava": "asked",
    "fusion-paligemma": "asked",
    "fusion-qwen": "asked",
    "labels-from-logs": "renamed",
    "language": "asked",
    "lit": "described",
    "metaworld-mt50": "bare",
    "modalities": "asked",
    "realtime": "dataset",
    "tabletop": "dataset",
    "tabletop-randomised": "dataset",
    "two-tower": "described",
}
"""The fixture that each recipe learns from; Meta-World offers no signal."""
STEPS = 20
CHANGES: dict[str, Any] = {
    "engine": "inline",
    "workers": 1,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",
    "batch": 8,
    "steps": STEPS,
    "minutes": 1e6,
    "warmup_steps": 5,
    "log_steps": 1,
    # Slow: at the rates of the recipes each of the first steps magnifies tenfold what rounding does, and a golden curve
    # would be that of one processor. So one thread or two, and SSE or AVX2 (ATEN_CPU_CAPABILITY=default), curves differ
    # by less than a tenth of what is allowed.
    "optimiser": {"lr": 3e-5, "muon_lr": 3e-4},
}


def _curve(name: str, dataset: Path, run: Path, **changes: Any) -> dict[str, list[float]]:
    """The losses that the log says of each step; the gradient's norm moves by some percent from rounding alone."""
    value = to_dict(load_recipe(TrainConfig, RECIPES / f"{name}.yaml")) | CHANGES | changes
    value["data"] |= {"path": str(dataset)}
    if value["augmentation"]["speech"]:
        texts, _ = Dataset.open(dataset).episodes.column("instruction")
        value["augmentation"]["speech"] = str(speak(run.with_name("bank"), sorted(texts), TRAINING).path)
    if name == "lit":
        value["model"] |= pretrained(run.with_name("towers"))
    for writer in value["model"].get("writers", {}).values():
        writer |= {"path": str(dataset.parent / "codes")} if "path" in writer else {}
    train(from_dict(TrainConfig, value, where=name), run)
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    losses = sorted({key for line in lines for key in line if key.endswith("loss")})
    return {key: [line.get(key, 1.0) for line in lines] for key in losses}  # 1 where a batch had nothing of the kind


def _distance(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> float:
    """The largest relative difference, as a multiple of what another processor may do to it by that step."""
    assert ours.keys() == theirs.keys()
    allowed = 5e-5 * (1 + np.arange(STEPS) / 4)
    return max(float((np.abs(np.array(ours[key]) / theirs[key] - 1) / allowed).max()) for key in ours)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.usefixtures("codes")
def test_the_curve_is_the_one_that_was_written(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    curve = _curve(name, request.getfixturevalue(DATASETS[name]), tmp_path)
    path = GOLDEN / f"{name}.json"
    if "VLA_UPDATE_GOLDEN" in os.environ:
        path.parent.mkdir(exist_ok=True)
        lists = ",\n".join(f'  "{key}": {json.dumps([float(f"{v:.7g}") for v in vs])}' for key, vs in curve.items())
        path.write_text(f"{{\n{lists}\n}}\n")
    assert _distance(curve, json.loads(path.read_text())) < 1


def test_a_small_change_is_noticed(tmp_path: Path, bare: Path) -> None:
    golden = json.loads((GOLDEN / "metaworld-mt50.json").read_text())
    assert _distance(_curve("metaworld-mt50", bare, tmp_path, warmup_steps=6), golden) > 2


def test_every_training_recipe_has_a_curve() -> None:
    recipes = {path.stem for path in RECIPES.glob("*.yaml")} - {"mixture"}
    assert recipes == set(DATASETS) == {path.stem for path in GOLDEN.glob("*.json")}
