"""Maps that point: the loss is least where the thing is, and what is out of view teaches nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla.core.contract import Dimension
from vla.core.errors import ConfigError, ContractError
from vla.models.auxiliaries.config import PointingConfig
from vla.models.auxiliaries.pointing import Pointing, pointing_loss
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.vocabulary import TokenTable, Vocabulary

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
TABLE = TokenTable(Vocabulary({"text": 1}), 2)


def _points(interface: Interface, *names: str) -> Interface:
    dimensions = tuple(Dimension(name=name, unit="image", low=-1.0, high=1.0) for name in names)
    return replace(interface, signals={"pointing": dimensions})


def test_the_loss_is_least_where_the_map_points_and_ignores_what_is_out_of_view() -> None:
    target = torch.tensor([[[-0.5, 0.25]]])
    losses = []
    for row, column in [(2, 10), (2, 2), (7, 10)]:  # an 8 by 16 map; the first is the cell of the target
        scores = torch.zeros(1, 1, 8, 16)
        scores[0, 0, row - 1, column - 1] = scores[0, 0, row, column - 1] = 5.0
        losses.append(pointing_loss(scores, target)[0].item())
    assert losses[0] < min(losses[1:])
    out = torch.tensor([[[0.0, 1.2], [2.0, 2.0], [torch.nan, torch.nan]]])
    loss, seen = pointing_loss(torch.randn(1, 3, 8, 16), out)
    assert not loss.any()
    assert not seen.any()


def test_points_are_said_where_the_signal_has_them(interface: Interface) -> None:
    names = ["wrist.cup.column", "front.cup.row", "wrist.cup.row", "front.cup.column"]
    auxiliary = Pointing(PointingConfig(), _points(interface, *names))
    points = torch.tensor([[[[0.1, 0.2], [9.0, 9.0]], [[0.3, 0.4], [9.0, 9.0]]]])  # (b, n, m, 2), a seeker too many
    said = auxiliary.predict({"images.points": points}, TABLE)
    torch.testing.assert_close(said, torch.tensor([[0.4, 0.1, 0.3, 0.2]]))


def test_entries_that_are_no_points_are_zero(interface: Interface) -> None:
    points = _points(interface, *(f"{c}.cup.{axis}" for c in ("front", "wrist") for axis in ("row", "column")))
    metric = Dimension(name="x", unit="m", low=-1.0, high=1.0)
    auxiliary = Pointing(PointingConfig(), replace(points, signals={"pointing": (metric, *points.signals["pointing"])}))
    said = auxiliary.predict({"images.points": torch.ones(2, 2, 1, 2)}, TABLE)
    assert said.tolist() == [[0, 1, 1, 1, 1]] * 2


def test_every_look_is_taught_and_the_last_one_is_told(interface: Interface) -> None:
    """Two looks that err alike cost twice what one costs; what is logged stays that of one."""
    names = [f"{camera}.cup.{axis}" for camera in ("front", "wrist") for axis in ("row", "column")]
    auxiliary = Pointing(PointingConfig(), _points(interface, *names))
    first, last = torch.randn(2, 3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))  # (b, n, m, y, x) each
    target = torch.tensor([[0.3, -0.3, 0.1, 1.4], [0.5, 0.5, 0.2, -0.2], [0.0, 0.1, -0.6, 0.6]])

    def loss(*looks: torch.Tensor) -> tuple[float, float]:
        total, metrics = auxiliary.loss({"images.scores": torch.stack(looks, dim=1)}, target, TABLE)
        return total.item(), metrics["pointing_loss"].item()

    (one, _), (other, said) = loss(first), loss(last)
    both, logged = loss(first, last)
    assert both == pytest.approx(one + other)
    assert logged == said == other


def test_cameras_point_at_the_same_number_of_things(interface: Interface) -> None:
    names = ["front.cup.row", "front.cup.column", "wrist.cup.row", "wrist.cup.column"]
    with pytest.raises(ContractError, match=r"same number of things to point at, got \{'front': 2, 'wrist': 1\}"):
        Pointing(PointingConfig(), _points(interface, *names, "front.cap.row", "front.cap.column"))


@pytest.mark.parametrize("camera", [0, 1])
def test_cameras_that_are_not_told_of_are_left_alone(interface: Interface, camera: int) -> None:
    name = interface.cameras[camera]
    auxiliary = Pointing(PointingConfig(), _points(interface, f"{name}.cup.row", f"{name}.cup.column"))
    scores = torch.randn(2, 1, 2, 3, 4, 4, requires_grad=True)  # (b, looks, n, m, y, x)
    loss, _ = auxiliary.loss({"images.scores": scores}, torch.tensor([[0.3, -0.3], [0.1, 0.5]]), TABLE)
    loss.backward()
    taught = scores.grad.abs().sum(dim=(0, 1, 4, 5)) > 0
    assert taught.tolist() == [[n == camera, False, False] for n in range(2)]
    points = torch.tensor([[[[0.1, 0.2]], [[0.3, 0.4]]]])
    said = auxiliary.predict({"images.points": points}, TABLE)
    torch.testing.assert_close(said, points[:, camera, 0])


def test_a_signal_without_points_cannot_be_pointed_at(interface: Interface) -> None:
    with pytest.raises(ContractError, match=r"\{'front': 0, 'wrist': 0\} of \['x'\]"):
        Pointing(PointingConfig(), _points(interface, "x"))


def test_more_things_than_tokens_can_point_are_refused(
    make_model: MakeModel, make_batch: MakeBatch, interface: Interface
) -> None:
    names = [f"{c}.{thing}.{axis}" for c in ("front", "wrist") for thing in "ab" for axis in ("row", "column")]
    many = _points(interface, *names)
    batch = make_batch(interface=many)
    with pytest.raises(ConfigError, match=r"model\.readers\.images\.tokens must be at least 4"):
        make_model(interface=many).loss(batch.inputs, batch.targets)
