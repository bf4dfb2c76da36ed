"""Baselines of other designs: they learn a batch by heart, see what there is and no more, and answer repeatably."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.learning import learn
from vla.core.errors import ConfigError
from vla.models.baselines.diffusion import Diffusion, _squared_cosine
from vla.models.config import ModelConfig
from vla.models.kinds.baselines import ActConfig, DiffusionConfig
from vla.models.kinds.two_tower import PictureTowerConfig, SentenceTowerConfig, TwoTowerConfig
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface

MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]
HORIZON = 4
CONFIGS: dict[str, ModelConfig] = {
    "act": ActConfig(horizon=HORIZON, execute=2, width=32, encoder_layers=1, heads=2, channels=(8, 16), style=4),
    "two-tower": TwoTowerConfig(
        horizon=HORIZON,
        execute=2,
        embedding=16,
        pictures=PictureTowerConfig(width=16, channels=8, tokens=4, layers=1, heads=2),
        sentences=SentenceTowerConfig(width=16, layers=1, heads=2),
        hidden=32,
        layers=1,
    ),
    "diffusion": DiffusionConfig(
        horizon=HORIZON, execute=2, width=32, channels=(8, 16), points=8, levels=(16, 32), train_steps=50, steps=10
    ),
}
every = pytest.mark.parametrize("kind", CONFIGS)


def _model(kind: str, interface: Interface, chunks: torch.Tensor) -> Model:
    torch.manual_seed(0)
    config = CONFIGS[kind]
    return config.build(replace(interface, horizon=HORIZON), config.fit(chunks))


@pytest.fixture
def batch(make_batch: MakeBatch) -> Batch:
    """Chunks of four steps."""
    found = make_batch()
    generator = torch.Generator().manual_seed(3)
    actions = torch.rand(len(found), HORIZON, found.targets.actions.shape[2], generator=generator) * 2 - 1
    targets = replace(found.targets, actions=actions, valid=torch.ones_like(actions, dtype=torch.bool))
    return replace(found, targets=targets)


@every
def test_it_learns_a_batch_by_heart(kind: str, interface: Interface, batch: Batch) -> None:
    model = _model(kind, interface, batch.targets.actions)
    before = (model.act(batch.inputs).actions - batch.targets.actions).abs().mean()
    first, *_ = learn(model, batch, steps=100 if kind == "diffusion" else 60, lr=3e-3)
    assert "action_loss" in first
    after = (model.act(batch.inputs).actions - batch.targets.actions).abs().mean()
    assert after < 0.4 * before


@every
def test_every_parameter_learns(kind: str, interface: Interface, batch: Batch) -> None:
    model = _model(kind, interface, batch.targets.actions)
    with torch.no_grad():
        for parameter in model.parameters():  # off the zeros through which nothing flows at first
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.loss(batch.inputs, batch.targets)[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every
def test_answers_repeat_and_rest_upon_their_own_observation(kind: str, interface: Interface, batch: Batch) -> None:
    model = _model(kind, interface, batch.targets.actions)
    inputs = replace(batch.inputs, seeds=torch.arange(len(batch)))
    answers = model.act(inputs).actions
    assert torch.equal(model.act(inputs).actions, answers)
    torch.testing.assert_close(model.act(inputs[2:3]).actions, answers[2:3], atol=1e-4, rtol=1e-4)
    other = model.act(replace(inputs, seeds=inputs.seeds + 1)).actions
    assert torch.equal(other, answers) == (kind != "diffusion")  # it draws nothing


@every
def test_it_sees_what_there_is_and_nothing_else(kind: str, interface: Interface, batch: Batch) -> None:
    model = _model(kind, interface, batch.targets.actions)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = batch.inputs
    answers = model.act(inputs).actions
    changed = {
        "images": inputs.images.flip(2, 3),
        "state": inputs.state + 0.5,
        "text": torch.where(inputs.text_valid, (inputs.text + 1) % interface.words, inputs.text),
    }
    for name, value in changed.items():
        assert not torch.allclose(model.act(replace(inputs, **{name: value})).actions, answers, atol=1e-4), name
    padded = replace(inputs, text=torch.where(inputs.text_valid, inputs.text, 1))
    torch.testing.assert_close(model.act(padded).actions, answers)
    absent = replace(inputs, camera_valid=inputs.camera_valid & torch.tensor([True, False]))
    unseen = replace(absent, images=absent.images.index_fill(2, torch.tensor([1]), 7))
    torch.testing.assert_close(model.act(unseen).actions, model.act(absent).actions)


@every
def test_what_is_not_valid_teaches_nothing(kind: str, interface: Interface, batch: Batch) -> None:
    model = _model(kind, interface, batch.targets.actions).eval()
    valid = batch.targets.valid.clone()
    valid[:, 2:], valid[:, :, 1] = False, False
    losses = []
    for actions in (batch.targets.actions, torch.where(valid, batch.targets.actions, 9.0)):
        torch.manual_seed(1)
        losses.append(model.loss(batch.inputs, replace(batch.targets, actions=actions, valid=valid))[0])
    assert torch.equal(*losses)


def test_noise_is_taken_away_from_what_the_network_knows(interface: Interface, batch: Batch) -> None:
    """With the true noise in the place of the network's, DDIM lands on the chunk, in as few steps as one likes."""
    model = _model("diffusion", interface, batch.targets.actions)
    assert isinstance(model, Diffusion)
    wanted = batch.targets.actions

    def true_noise(x: torch.Tensor, level: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        kept = model.kept[level, None, None]
        return (x - kept.sqrt() * wanted) / (1 - kept).sqrt()

    model._noise = true_noise  # type: ignore[method-assign]
    torch.testing.assert_close(model.act(batch.inputs).actions, wanted, atol=1e-4, rtol=1e-4)


def test_the_noise_schedule_is_the_squared_cosine() -> None:
    kept = _squared_cosine(100)
    closed = [math.cos(((i + 1) / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(100)]
    closed = [value / math.cos(0.008 / 1.008 * math.pi / 2) ** 2 for value in closed]
    torch.testing.assert_close(kept[:-1], torch.tensor(closed[:-1]), atol=1e-5, rtol=1e-4)
    assert 0 < kept[-1] < 1e-5


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (ActConfig, {"width": 30}, "width=30 must be a multiple of model.heads=4"),
        (ActConfig, {"channels": ()}, "channels"),
        (ActConfig, {"kl_weight": -1.0}, "kl_weight=-1.0"),
        (DiffusionConfig, {"horizon": 10}, "horizon=10 must be a multiple of 4"),
        (DiffusionConfig, {"steps": 200}, "steps=200 must be at most model.train_steps=100"),
        (DiffusionConfig, {"levels": (12,)}, "multiples of 8"),
    ],
)
def test_impossible_settings_are_named(kind: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kind(**values)
