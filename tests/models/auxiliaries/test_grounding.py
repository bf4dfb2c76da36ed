"""The token that says where things are: in the units of the dataset, between its limits."""

import pytest
import torch

from vla.core.contract import Dimension
from vla.models.auxiliaries.config import GroundingConfig
from vla.models.auxiliaries.grounding import Grounding
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

DIMENSIONS = (
    Dimension(name="x", unit="m", low=-0.5, high=0.5),
    Dimension(name="y", unit="m", low=0.2, high=1.7),
)


def _grounding(*, own: bool = False) -> tuple[Grounding, TokenTable]:
    torch.manual_seed(0)
    auxiliary = Grounding(GroundingConfig(bins=32, own=own), DIMENSIONS, 8)
    ranges = {"special": len(SPECIALS)} | ({"grounding": auxiliary.ids} if auxiliary.ids else {})
    return auxiliary, TokenTable(Vocabulary(ranges), 8)


def test_it_adds_one_query_behind_the_inputs() -> None:
    auxiliary, table = _grounding()
    segment = auxiliary.segment(5, table)
    assert segment.x.shape == (5, 1, 8)
    assert segment.marks().block.unique().tolist() == [1]
    assert auxiliary.ids == 2 * 32


def test_beliefs_stay_between_the_limits() -> None:
    auxiliary, table = _grounding()
    hidden = 100 * torch.randn(50, 1, 8, generator=torch.Generator().manual_seed(0))
    said = auxiliary.predict({"grounding": hidden}, table)
    assert (said >= torch.tensor([-0.5, 0.2])).all()
    assert (said <= torch.tensor([0.5, 1.7])).all()
    assert said.std(dim=0).min() > 0.05


@pytest.mark.parametrize("own", [False, True])
def test_learning_a_place_is_saying_it(own: bool) -> None:
    auxiliary, table = _grounding(own=own)
    assert auxiliary.ids == (0 if own else 2 * 32)
    readout = auxiliary if own else table  # where it has its own, the table may stay as it is
    hidden = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    target = torch.tensor([[-0.4, 0.4], [0.3, 1.5], [0.0, 1.0], [0.25, torch.nan]])
    optimiser = torch.optim.Adam([hidden, *readout.parameters()], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss, metrics = auxiliary.loss({"grounding": hidden}, target, table)
        loss.backward()
        optimiser.step()
    error = (auxiliary.predict({"grounding": hidden}, table) - target).abs()
    assert error.nan_to_num().max() < 0.02
    assert metrics.keys() == {"grounding_loss", "grounding_error"}
    assert metrics["grounding_error"].item() == pytest.approx(error.nanmean().item(), abs=0.01)
