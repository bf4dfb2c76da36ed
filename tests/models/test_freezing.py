"""What is frozen does not move: neither weights, nor what norms count."""

import pytest
import torch
from torch import nn

from vla.core.errors import ConfigError, UnknownNameError
from vla.models.freezing import Frozen


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)), nn.Linear(4, 4), nn.BatchNorm1d(4)
    )


def test_weights_and_statistics_of_norms_stay() -> None:
    model = _model()
    frozen = Frozen(model, ["0.*"])
    assert {name.split(".")[0] for name in frozen.names} == {"0"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        frozen.train(model)
        model(torch.rand(8, 3)).square().mean().backward()
        optimiser.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"1", "2"}
    assert {"2.running_mean", "2.num_batches_tracked"} <= moved
    assert model[0][2].training, "dropout is no statistic"


def test_nothing_is_frozen_by_default() -> None:
    model = _model()
    assert Frozen(model, ()).names == frozenset()
    assert all(p.requires_grad for p in model.parameters())


def test_a_pattern_that_fits_nothing_is_answered_with_what_is_near() -> None:
    model = nn.ModuleDict({"readers": nn.ModuleDict({"images": nn.Linear(2, 2)}), "trunk": nn.Linear(2, 2)})
    with pytest.raises(UnknownNameError, match=r"'reader\.images\.\*' fits no .*did you mean readers\.images\.\*"):
        Frozen(model, ["trunk.*", "reader.images.*"])
    with pytest.raises(UnknownNameError, match=r"'zzz' fits no weight of this model: parts: readers\.\*, trunk\.\*"):
        Frozen(model, ["zzz"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        Frozen(model, ["*"])
