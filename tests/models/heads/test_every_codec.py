"""Every codec end to end: the autoregressive head learns its tokens, writes them, and what it writes is a chunk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import TINY
from vla.core.config import from_dict
from vla.core.types import Observation
from vla.models.checkpoint import load_model
from vla.models.codecs.config import CODECS
from vla.models.heads.tokens import TokensHead
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig

QUICK: dict[str, dict[str, Any]] = {"fast": {"vocabulary": 128}, "rvq": {"codes": 16}}
KINDS: dict[str, dict[str, Any]] = {
    **{name: {"kind": name, **QUICK.get(name, {})} for name in CODECS},
    "bins, quantile": {"kind": "bins", "spacing": "quantile", "bins": 16},
    "bins, mu-law": {"kind": "bins", "spacing": "mu-law"},
}


@pytest.mark.parametrize("name", KINDS)
def test_it_trains_and_acts(name: str, dataset: Path, tmp_path: Path) -> None:
    head = {"kind": "tokens", "codec": KINDS[name]}
    recipe = {
        **TINY,
        "model": {**TINY["model"], "head": head},
        "steps": 3,
        "data": {"path": str(dataset), "validation": 0.2},
    }
    checkpoint = train(from_dict(TrainConfig, recipe, where="a test"), tmp_path / "run")
    losses = [line["action_loss"] for line in read_metrics(tmp_path / "run") if "action_loss" in line]
    assert losses
    assert np.isfinite(losses).all()
    policy = LearnedPolicy(checkpoint, device="cpu")
    images = {c.name: np.zeros(c.shape, np.uint8) for c in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (chunk,) = policy.act([Observation(images=images, state=state, instruction="go", time_ns=0)])
    assert chunk is not None
    assert chunk.actions.shape == (8, len(policy.contract.action))
    assert np.isfinite(chunk.actions).all()
    blueprint, model = load_model(checkpoint)
    assert isinstance(model.head, TokensHead)
    assert model.head.codec.to_json() == blueprint.fitted["head"]
