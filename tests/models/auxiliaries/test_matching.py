"""Tokens that are matched with patches: each finds the patch that looks like what it asks for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.core.errors import ConfigError
from vla.models.auxiliaries.config import GroundingConfig, MatchingConfig
from vla.models.auxiliaries.matching import Matching
from vla.models.heads.config import BinsHeadConfig, MipHeadConfig
from vla.models.model import Model
from vla.models.readers.config import ConnectedConfig, StateConfig, TextConfig
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.points import cell_grid
from vla.models.trunk.vocabulary import TokenTable, Vocabulary

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
TABLE = TokenTable(Vocabulary({"text": 1}), 2)
READERS: dict[str, Any] = {
    "text": TextConfig(heads=3),
    "images": ConnectedConfig(tower=TowerConfig(width=8, layers=1, heads=2, hidden=8, patch=4, image=16)),
    "state": StateConfig(dropout=0.0),
}


@torch.no_grad()
def test_a_thing_is_where_the_patch_looks_like_it(interface: Interface) -> None:
    matching = Matching(MatchingConfig(channels=6), interface, 6)
    matching.project.weight.copy_(torch.eye(6))
    matching.project.bias.zero_()
    wanted, features = torch.randn(3, 1, 6), torch.zeros(3, 2, 16, 6)
    for sample, (front, wrist) in enumerate([(0, 15), (5, 6), (12, 3)]):
        features[sample, 0, front] = features[sample, 1, wrist] = 50 * wanted[sample, 0]
    activations = {"pointing": wanted, "images.features": features}
    grid = cell_grid(4, 4, like=features)
    expected = torch.stack([torch.cat([grid[front], grid[wrist]]) for front, wrist in [(0, 15), (5, 6), (12, 3)]])
    torch.testing.assert_close(matching.predict(activations, TABLE), expected, atol=1e-3, rtol=0)
    right, _ = matching.loss(activations, expected, TABLE)
    wrong, _ = matching.loss(activations, expected.flip(1), TABLE)
    assert right < wrong


def test_it_teaches_the_tower(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(readers=READERS, auxiliaries={"pointing": MatchingConfig(channels=8)}), make_batch()
    terms, metrics = model.terms(batch.inputs, batch.targets)
    assert metrics["pointing_loss"] > 0
    terms["pointing"].backward()
    named = dict(model.named_parameters())
    for name in ("readers.images.tower.project.weight", "auxiliaries.pointing.project.weight", "table.weight"):
        grad = named[name].grad
        assert grad is not None
        assert grad.abs().sum() > 0
    assert model.act(batch.inputs).signals["pointing"].abs().max() <= 1


@pytest.mark.parametrize("says", [True, False])
def test_actions_are_read_behind_what_it_says(says: bool, make_model: MakeModel, make_batch: MakeBatch) -> None:
    auxiliaries = {"pointing": MatchingConfig(channels=8, says=says)}
    for head in (BinsHeadConfig(bins=16), MipHeadConfig()):
        model, batch = make_model(readers=READERS, auxiliaries=auxiliaries, head=head), make_batch()
        terms, _ = model.terms(batch.inputs, batch.targets)
        terms["action"].backward()
        wanted = dict(model.named_parameters())["auxiliaries.pointing.project.weight"].grad
        assert (wanted is not None and bool(wanted.abs().sum() > 0)) == says  # by no other way
        # One pass with gradients, in turns into a cache of fixed size without.
        model.eval()
        with torch.no_grad():
            cached = model.predict(batch.inputs).actions
        torch.testing.assert_close(model.predict(batch.inputs).actions.detach(), cached, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("says", [True, False])
def test_a_place_is_asked_for_behind_what_it_says(says: bool, make_model: MakeModel, make_batch: MakeBatch) -> None:
    matching = MatchingConfig(channels=8, says=says)
    model = make_model(readers=READERS, auxiliaries={"grounding": GroundingConfig(), "pointing": matching})
    batch = make_batch()
    terms, _ = model.terms(batch.inputs, batch.targets)
    terms["grounding"].backward()
    wanted = dict(model.named_parameters())["auxiliaries.pointing.project.weight"].grad
    assert (wanted is not None and bool(wanted.abs().sum() > 0)) == says
    model.eval()
    with torch.no_grad():
        cached = model.predict(batch.inputs).signals["grounding"]
    torch.testing.assert_close(model.predict(batch.inputs).signals["grounding"].detach(), cached, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_it_says_nothing_of_a_camera_that_is_not_there(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model(readers=READERS, auxiliaries={"pointing": MatchingConfig(channels=8)}).eval()
    inputs = replace(make_batch().inputs, camera_valid=torch.tensor([[True, False]] * 7))
    other = replace(inputs, images=inputs.images.clone())
    other.images[:, :, 1] = 255 - other.images[:, :, 1]
    assert torch.equal(model.predict(inputs).actions, model.predict(other).actions)
    other.images[:, :, 0] = 255 - other.images[:, :, 0]
    assert not torch.equal(model.predict(inputs).actions, model.predict(other).actions)


@pytest.mark.parametrize("readers", [READERS, None], ids=["another width", "another reader"])
def test_what_has_no_such_patches_is_refused(readers: Any, make_model: MakeModel, make_batch: MakeBatch) -> None:
    given = {} if readers is None else {"readers": readers}
    model, batch = make_model(**given, auxiliaries={"pointing": MatchingConfig(channels=9)}), make_batch()
    with pytest.raises(ConfigError, match="there is none" if readers is None else "its tower has 8 channels"):
        model.loss(batch.inputs, batch.targets)
