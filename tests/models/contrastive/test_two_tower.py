"""Two towers: what belongs together, what acts by it, and that no tower sees the other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.learning import learn
from vla.core.errors import ConfigError
from vla.models.contrastive.two_tower import TwoTower, recall, spoken_of
from vla.models.kinds.two_tower import PictureTowerConfig, SentenceTowerConfig, TwoTowerConfig
from vla.models.trunk.inputs import Batch, Written
from vla.models.trunk.interface import Interface

MakeBatch = Callable[..., Batch]
SMALL: dict[str, Any] = {
    "horizon": 3,
    "embedding": 16,
    "pictures": PictureTowerConfig(width=16, channels=8, tokens=4, layers=1, heads=2),
    "sentences": SentenceTowerConfig(width=16, layers=1, heads=2),
    "hidden": 24,
    "layers": 1,
}
ASKED = 9
"""Words of the longest answer: more than an instruction has."""


def _model(interface: Interface, **changes: Any) -> TwoTower:
    torch.manual_seed(0)
    model = TwoTowerConfig(**(SMALL | changes)).build(replace(interface, answer=ASKED), {})
    assert isinstance(model, TwoTower)
    return model


def _described(batch: Batch, rows: list[int]) -> Batch:
    """The same with a caption of its own for these rows."""
    generator = torch.Generator().manual_seed(5)
    value = torch.randint(0, 40, (len(batch), ASKED), generator=generator)
    known = torch.zeros(len(batch), ASKED, dtype=torch.bool)
    known[rows] = torch.arange(ASKED) < torch.tensor([[5 + row % 3] for row in rows])
    targets = replace(batch.targets, written={"answer": Written(value=value * known, known=known)})
    return replace(batch, targets=targets)


@pytest.fixture
def batch(make_batch: MakeBatch) -> Batch:
    return _described(make_batch(), [1, 3, 4])


def test_it_learns_which_belong_together_and_to_act_at_once(interface: Interface, batch: Batch) -> None:
    model = _model(interface)
    found = learn(model, batch, steps=120, lr=3e-3)
    said = spoken_of(batch.inputs, batch.targets)
    distinct = len(torch.unique(torch.cat([*said], dim=1), dim=0))
    assert distinct == len(batch)
    assert found[0]["recall_at_1"] < 0.6
    assert found[-1]["recall_at_1"] == 1.0
    assert found[-1]["action_loss"] < 0.5 * found[0]["action_loss"]


def test_captions_take_the_place_of_instructions(interface: Interface, batch: Batch) -> None:
    said, valid = spoken_of(batch.inputs, batch.targets)
    answers = batch.targets.written["answer"]
    for row in range(len(batch)):
        of, known = (answers.value, answers.known) if row in (1, 3, 4) else (batch.inputs.text, batch.inputs.text_valid)
        assert said[row][valid[row]].tolist() == of[row][known[row]].tolist()
    assert said.shape[1] == valid.sum(dim=1).max()


def test_what_is_described_does_not_teach_acting(interface: Interface, batch: Batch) -> None:
    model = _model(interface, contrast=0.0)
    wrong = batch.targets.actions.index_fill(0, torch.tensor([1, 3, 4]), 9.0)
    losses = [model.loss(batch.inputs, t)[0] for t in (batch.targets, replace(batch.targets, actions=wrong))]
    assert torch.equal(*losses)
    others = batch.targets.actions.index_fill(0, torch.tensor([0]), 9.0)
    assert not torch.equal(model.loss(batch.inputs, replace(batch.targets, actions=others))[0], losses[0])


def test_views_are_those_of_their_rows(interface: Interface, batch: Batch) -> None:
    """Each picture is looked at once, and comes back to its row."""
    model = _model(interface).eval()
    doing = batch.targets.acting
    assert doing is not None
    views = model._views(batch.inputs, doing, model.see(batch.inputs[doing]))
    alone = model.images(batch.inputs.images[:, -1, 0], torch.zeros(len(batch), dtype=torch.long))
    torch.testing.assert_close(views, alone)
    torch.testing.assert_close(model._views(batch.inputs, doing, None), alone)
    torch.testing.assert_close(views.norm(dim=1), torch.ones(len(batch)))


def test_neither_tower_sees_the_other(interface: Interface, batch: Batch) -> None:
    model = _model(interface).eval()
    inputs = batch.inputs
    seen = model.see(inputs)
    torch.testing.assert_close(model.see(replace(inputs, text=(inputs.text + 1) % 40)), seen)
    said = model.texts(inputs.text, inputs.text_valid)
    assert said.shape == (len(batch), 16)
    wider = torch.nn.functional.pad(inputs.text, (0, 3), value=7), torch.nn.functional.pad(inputs.text_valid, (0, 3))
    torch.testing.assert_close(model.texts(*wider), said)  # padding says nothing


def test_alike_says_which_pictures_share_a_sentence(interface: Interface, make_batch: MakeBatch) -> None:
    """With the sigmoid, which asks each pair by itself: two rows of one sentence are no strangers."""
    from vla.models.contrastive.config import SigmoidConfig

    batch = make_batch()
    same = replace(batch.inputs, text=batch.inputs.text[:1].expand_as(batch.inputs.text).clone())
    same = replace(same, text_valid=torch.ones_like(same.text_valid))
    loss = SigmoidConfig(scale=1.0, bias=4.0)
    alike, naive = (
        _model(interface, loss=loss, alike=alike).eval().loss(same, batch.targets)[1]["contrast_loss"]
        for alike in (True, False)
    )
    assert naive > alike + 10  # each of seven would be told that it does not belong to six


def test_recall_counts_pictures_of_the_same_sentence() -> None:
    images = torch.eye(3)
    assert recall(images, images, torch.tensor([1, 2, 3])) == 1
    assert recall(images, images[[1, 0, 2]], torch.tensor([1, 2, 3])).item() == pytest.approx(1 / 3)
    assert recall(images, images[[1, 0, 2]], torch.tensor([5, 5, 3])) == 1


def test_what_is_left_out_is_not_built(interface: Interface, batch: Batch) -> None:
    only = _model(interface, action=0.0)
    assert only.acting is None
    loss, metrics = only.loss(batch.inputs, batch.targets)
    loss.backward()
    assert [name for name, p in only.named_parameters() if p.grad is None] == []
    assert metrics["action_loss"].isnan()
    with pytest.raises(ConfigError, match=r"trained with model\.action=0: it embeds, and does not act"):
        only.act(batch.inputs)
    assert _model(interface, contrast=0.0).contrast is None
    with pytest.raises(ConfigError, match="one of them more"):
        TwoTowerConfig(action=0.0, contrast=0.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"camera": 2}, "camera=2: expected 0 to 1, the cameras are front, wrist"),
        ({"embedding": 0}, "embedding=0 must be at least 1"),
        ({"action": -1.0}, "expected at least 0"),
    ],
)
def test_impossible_settings_are_named(interface: Interface, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _model(interface, **values)
    with pytest.raises(ConfigError, match=r"pictures\.width=30 must be a multiple of heads=4"):
        PictureTowerConfig(width=30)
