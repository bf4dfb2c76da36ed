"""The losses are what their papers say, pairs that share a sentence count as pairs, and each mistake shows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.models.contrastive import losses
from vla.models.contrastive.config import LOSSES, InfoNceConfig, LossConfig, SigmoidConfig, SmoothedConfig
from vla.models.contrastive.contrast import SigmoidContrast, SoftmaxContrast
from vla.models.contrastive.losses import infonce, sigmoid, smoothed
from vla.models.trunk.initialisation import account

IDS = torch.tensor([4, 7, 4, 1, 7, 4])
SAME = IDS[:, None] == IDS


@dataclass(frozen=True)
class _Recipe:
    loss: LossConfig = field(default_factory=InfoNceConfig)


every_loss = pytest.mark.parametrize("kind", LOSSES)


def _pairs(rows: int = 6, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    images, texts = (F.normalize(torch.randn(rows, width, generator=random), dim=-1) for _ in range(2))
    return images, texts


def _by_hand(images: Tensor, texts: Tensor, scale: float, smoothing: float, same: Tensor) -> float:
    """Mean over both sides of −Σ target · log softmax, row after row, in Python's numbers."""
    total = 0.0
    for rows, columns, belongs in ((images, texts, same), (texts, images, same.T)):
        for i, row in enumerate(rows):
            exps = [math.exp(scale * float(row @ column)) for column in columns]
            mates = int(belongs[i].sum())
            for j, value in enumerate(exps):
                target = (1 - smoothing) * float(belongs[i, j]) / mates + smoothing / len(columns)
                total -= target * math.log(value / sum(exps)) / len(rows) / 2
    return total


@pytest.mark.parametrize("same", [None, SAME], ids=["pairs", "shared"])
def test_losses_are_the_formulas(same: Tensor | None) -> None:
    images, texts = _pairs()
    mates = torch.eye(6, dtype=torch.bool) if same is None else same
    scale, bias = torch.tensor(3.0), torch.tensor(-1.5)
    assert float(infonce(images, texts, scale, same)) == pytest.approx(_by_hand(images, texts, 3, 0, mates), rel=1e-5)
    expected = _by_hand(images, texts, 1 / 0.7, 0.1, mates)
    assert float(smoothed(images, texts, torch.tensor(0.7), 0.1, same)) == pytest.approx(expected, rel=1e-5)
    pairwise = 0.0
    for i in range(6):
        for j in range(6):
            z = 1 if mates[i, j] else -1
            pairwise += math.log1p(math.exp(-z * (3 * float(images[i] @ texts[j]) - 1.5))) / 6
    assert float(sigmoid(images, texts, scale, bias, same)) == pytest.approx(pairwise, rel=1e-5)


def test_losses_are_those_of_transformers() -> None:
    from transformers.models.align.modeling_align import align_loss
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    images, texts = _pairs()
    similarity = texts @ images.T
    torch.testing.assert_close(infonce(images, texts, torch.tensor(9.0)), image_text_contrastive_loss(9 * similarity))
    torch.testing.assert_close(smoothed(images, texts, torch.tensor(0.3), 0.1), align_loss(similarity / 0.3))
    assert not torch.isclose(smoothed(images, texts, torch.tensor(0.3), 0.0), align_loss(similarity / 0.3), atol=1e-3)


@every_loss
@torch.no_grad()
def test_pairs_in_another_order_cost_more(kind: str) -> None:
    images, _ = _pairs(width=16)
    loss = LOSSES[kind](kind=kind).build()
    right, wrong = float(loss(images, images)), float(loss(images, images.roll(1, dims=0)))
    assert right < wrong - 0.1


@every_loss
@torch.no_grad()
def test_rows_of_one_sentence_belong_together(kind: str) -> None:
    """Pictures that come nearer to a sentence of the same id as their own cost less only where ids are told."""
    loss = LOSSES[kind](kind=kind).build()
    images, texts = _pairs()
    nearer = F.normalize(images + 0.3 * (texts[torch.tensor([2, 4, 5, 3, 1, 0])]), dim=-1)  # of the same ids
    gain, ungained = (float(loss(images, texts, ids) - loss(nearer, texts, ids)) for ids in (IDS, None))
    assert gain > ungained + 0.05
    assert float(loss(images, texts, torch.arange(6))) == pytest.approx(float(loss(images, texts)), rel=1e-6)


@torch.no_grad()
def test_sharing_changes_what_is_softmaxed_only_where_equal_sentences_differ() -> None:
    """Equal vectors have equal shares of any softmax, so it is the sigmoid that needs to be told."""
    images, _ = _pairs()
    texts = _pairs(rows=8, seed=1)[1][IDS]
    for config in (InfoNceConfig(), SmoothedConfig()):
        loss = config.build()
        torch.testing.assert_close(loss(images, texts, IDS), loss(images, texts))
    pairwise = SigmoidConfig(bias=0.0).build()
    assert abs(float(pairwise(images, texts, IDS) - pairwise(images, texts))) > 0.1


@torch.no_grad()
def test_sigmoid_begins_as_the_paper_says() -> None:
    """At scale 10 and bias −10, orthogonal vectors: b − 1 pairs cost log(1 + e^−10) each, the pair itself e^10's."""
    images, texts = torch.eye(12)[:6], torch.eye(12)[6:]
    expected = 5 * math.log1p(math.exp(-10)) + math.log1p(math.exp(10))
    assert float(SigmoidConfig().build()(images, texts)) == pytest.approx(expected, rel=1e-5)
    assert float(SigmoidConfig(scale=1.0, bias=0.0).build()(images, texts)) == pytest.approx(6 * math.log(2), rel=1e-5)


def test_pieces_of_the_sentences_add_up() -> None:
    images, texts = _pairs()
    scale, bias = torch.tensor(4.0), torch.tensor(-2.0)
    pieces = [sigmoid(images, texts[p], scale, bias, SAME[:, p]) for p in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(torch.stack(pieces).sum(), sigmoid(images, texts, scale, bias, SAME))


def test_scales_begin_where_the_papers_begin_and_stay_bounded() -> None:
    clip, align = InfoNceConfig().build(), SmoothedConfig().build()
    assert isinstance(clip, SoftmaxContrast)
    assert isinstance(align, SoftmaxContrast)
    assert clip.log_scale().item() == pytest.approx(2.6592, abs=1e-4)
    assert align.log_scale().item() == 0
    siglip = SigmoidConfig().build()
    assert isinstance(siglip, SigmoidContrast)
    assert (siglip.log_scale().item(), siglip.bias().item()) == pytest.approx((math.log(10), -10))
    images, texts = _pairs()
    with torch.no_grad():
        clip.log_scale.value.fill_(50.0)
    clip(images, texts).backward()
    assert clip.log_scale().exp().item() == pytest.approx(100, rel=1e-5)
    assert clip.log_scale.value.grad is not None
    assert float(clip.log_scale.value.grad) != 0  # at the bound it still learns


@every_loss
def test_what_a_loss_learns_is_accounted_for_and_learns(kind: str) -> None:
    loss = LOSSES[kind](kind=kind).build()
    account(loss)
    images, texts = _pairs()
    loss(images, texts, IDS).backward()
    assert all(p.grad is not None and float(p.grad) != 0 for p in loss.parameters())
    order = loss.logits(images, texts).argsort(dim=1)
    assert torch.equal(order, (images @ texts.T).argsort(dim=1))


@pytest.mark.parametrize("mistake", ["one side", "no share", "positives unheard"])
def test_a_mistake_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: Callable[[Tensor, Tensor, float], Tensor] = losses.chosen
    images, texts = _pairs()
    expected = _by_hand(images, texts, 3, 0.1, SAME)

    def wrong(logits: Tensor, same: Tensor, smoothing: float) -> Tensor:
        if mistake == "one side":
            ours = images @ texts.T * 3
            return chosen(ours, same, smoothing)
        if mistake == "no share":
            return F.cross_entropy(logits, same.to(logits.dtype), label_smoothing=smoothing)
        return chosen(logits, torch.eye(len(logits), dtype=torch.bool), smoothing)

    monkeypatch.setattr(losses, "chosen", wrong)
    assert float(smoothed(images, texts, torch.tensor(1 / 3), 0.1, SAME)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "sigmoyd"}, "sigmoyd.*sigmoid"),
        ({"kind": "infonce", "temperature": 0.001}, r"temperature=0.001 must be at least 1 / most, and most=100.0"),
        ({"kind": "smoothed", "smoothing": 1.0}, "smoothing=1.0 must be at least 0 and below 1"),
        ({"kind": "sigmoid", "scale": -1.0}, "scale=-1.0 must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(_Recipe, {"loss": values}, where="recipe")
