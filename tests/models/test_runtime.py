"""Ways to act that change nothing but how long it takes; and that no model asks the device while it acts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from vla.core.errors import ConfigError
from vla.models.codecs.config import FastConfig
from vla.models.config import ModelConfig
from vla.models.heads.config import HEADS, HeadConfig, TokensHeadConfig
from vla.models.kinds.baselines import ActConfig, DiffusionConfig
from vla.models.kinds.two_tower import PictureTowerConfig, TwoTowerConfig
from vla.models.model import Model
from vla.models.runtime import CudaGraphs, acting
from vla.models.trunk.inputs import Batch, Committed, Inputs
from vla.models.trunk.interface import Interface

MakeModel = Callable[..., Model]
MakeBatch = Callable[..., Batch]
CASES: dict[str, HeadConfig] = {name: config() for name, config in HEADS.items()}  # type: ignore[call-arg]
BASELINES: dict[str, ModelConfig] = {
    "act": ActConfig(horizon=4, execute=2, width=16, encoder_layers=1, heads=2, channels=(4,), style=4),
    "two-tower": TwoTowerConfig(horizon=4, execute=2, pictures=PictureTowerConfig(channels=4), hidden=16, layers=1),
    "diffusion": DiffusionConfig(horizon=4, execute=2, width=16, channels=(4,), points=3, levels=(8, 16), steps=2),
}
every_head = pytest.mark.parametrize("head", CASES.values(), ids=CASES.keys())


def _inputs(batch: Batch) -> Inputs:
    """With everything that there can be."""
    steps = torch.arange(len(batch)) % 3
    committed = Committed(actions=batch.targets.actions, steps=steps)
    return replace(batch.inputs, committed=committed, seeds=torch.arange(len(batch)))


def _never_asks(model: Model, inputs: Inputs) -> None:
    """On the meta device there are no values: a model that asks for one, or brings a tensor of the host's, fails."""
    found = model.to("meta").act(inputs.to(torch.device("meta"))).actions
    assert found.shape[0] == len(inputs)
    assert found.is_meta


@every_head
def test_no_head_asks_the_device(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Then all that it does can be recorded once, and replayed."""
    _never_asks(make_model(head=head, committed=2), _inputs(make_batch()))


@pytest.mark.parametrize("config", BASELINES.values(), ids=BASELINES.keys())
def test_no_baseline_asks_the_device(config: ModelConfig, interface: Interface, make_batch: MakeBatch) -> None:
    sizes = replace(interface, horizon=config.horizon)
    model = config.build(sizes, config.fit(torch.rand(20, config.horizon, sizes.action)))
    _never_asks(model, replace(make_batch().inputs, seeds=torch.arange(7)))


def test_one_that_asks_is_noticed(
    make_model: MakeModel, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    predict = model.predict
    for asks in (lambda x: bool(x.state.any()), lambda x: x.state + torch.ones(1, 1, 5)):

        def asking(inputs: Inputs, asks: Callable[[Inputs], Any] = asks) -> Any:
            asks(inputs)
            return predict(inputs)

        monkeypatch.setattr(model, "predict", asking)
        with pytest.raises((RuntimeError, NotImplementedError)):
            _never_asks(model, make_batch().inputs)


def test_graphs_are_for_gpus(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"compile=graphs: expected a CUDA device, got cpu; set compile=default"):
        acting(make_model(), "graphs", torch.device("cpu"))


def test_as_written_is_the_model(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, inputs = make_model(), make_batch().inputs
    assert torch.equal(acting(model, "none", torch.device("cpu"))(inputs).actions, model.act(inputs).actions)


@pytest.mark.gpu
@pytest.mark.parametrize("head", [*CASES.values(), TokensHeadConfig(codec=FastConfig(vocabulary=512))], ids=str)
def test_graphs_answer_as_the_model_does(head: HeadConfig, make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Other inputs of the same shapes, inputs of other shapes, and the first again; answers that stay as they were."""
    device = torch.device("cuda")
    model = scaled(make_model(head=head), 0.2).to(device).eval()
    graphs = CudaGraphs(model.act)
    kept: list[tuple[Tensor, Tensor]] = []
    for size, seed in ((2, 0), (2, 1), (3, 2), (2, 3)):
        inputs = replace(make_batch(size=size, seed=seed).inputs, seeds=torch.arange(size) + seed).to(device)
        kept.append((graphs(inputs).actions, model.act(inputs).actions))
    for ours, expected in kept:
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
